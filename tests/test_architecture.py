"""The house keeps its shape: imports go one way, rooms are where they are expected, and every door says what it does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ["users", "notifications", "products", "admin_console"]  # each may import those before it
ORDER = {  # inside of an app, each room may import those before it
    "users": """
        models moments typed record plans queries actions invitations sheets imports reading_list reading_room admin apps
    """,
    "notifications": """
        models message_ids mail_server queries colours placeholders markup mime phrases wordings emails addresses copies
        suppression bounces smtp outbox sink actions customising people tasks admin apps
    """,
    "products": """
        models pauses selection history sealing checkpoints verification retention targets queries reports export stretches
        asof verify_pack evidence previews refusals previewed undoing seats catalogue batch running actions naming erasure
        people imports tasks guides emails news mailing seals panels admin apps
    """,
}
ROOMS = {app: rooms.split() for app, rooms in ORDER.items()}


def modules(app: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts)


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the dotted names that a module imports, those inside of functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(name.name.split(".")) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((*node.module.split("."), name.name) for name in node.names)


@pytest.mark.parametrize("app", APPS)
def test_imports_go_one_way_between_the_apps(app):
    above = set(APPS[APPS.index(app) + 1 :])
    upward = [
        (str(path.relative_to(ROOT)), ".".join(name)) for path in modules(app) for name in imported(path) if name[0] in above
    ]

    assert upward == []


@pytest.mark.parametrize("app", ROOMS)
def test_imports_go_one_way_between_the_rooms_of_an_app(app):
    order = ROOMS[app]
    for path in (ROOT / app).glob("*.py"):
        if path.stem == "__init__":
            continue
        assert path.stem in order, f"{app}/{path.name} is a room that the house does not know"
        for name in imported(path):
            if name[0] == app and len(name) > 1 and name[1] in order:
                assert order.index(name[1]) < order.index(path.stem), f"{app}/{path.name} imports {'.'.join(name)}"


def test_the_domain_knows_no_request_no_celery_and_no_wall_clock():
    for app in ("users", "notifications", "products"):
        for path in modules(app):
            names = {".".join(name) for name in imported(path)}
            if path.stem not in ("tasks",):
                assert not any(name.startswith("celery") for name in names), path
            if path.stem in ("queries", "asof", "previews", "actions", "selection", "batch"):
                assert not {"django.utils.timezone", "time.time"} & names, path
                assert not any(name.startswith("django.http") for name in names), path


def test_every_public_function_says_what_it_does():
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for app in ("users", "notifications", "products")
        for path in modules(app)
        if path.stem in ("queries", "asof", "previews", "actions", "selection", "batch", "history", "emails", "tasks")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]

    assert silent == []


def test_every_module_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for app in APPS
        for path in modules(app)
        if path.name not in ("__init__.py", "apps.py") and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_verbs_that_are_told_the_time_are_called_by_keyword_only():
    loose = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for app in ("users", "notifications", "products")
        for path in modules(app)
        if path.stem == "actions"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.args.args
        if "now" in [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
    ]

    assert loose == []


def test_a_view_fits_on_a_screen():
    long = [
        f"{path.relative_to(ROOT)} {node.name}: {node.end_lineno - node.body[0].lineno + 1} lines"
        for path in (ROOT / "admin_console" / "views").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.body[0].lineno + 1 > 30
    ]

    assert long == []


def test_there_is_no_room_for_odds_and_ends():
    assert [path for app in APPS for path in modules(app) if path.stem in ("utils", "helpers", "common", "misc")] == []


def test_migrations_are_complete_and_import_no_app_code(db):
    from django.core.management import call_command

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    for app in APPS:
        for path in (ROOT / app / "migrations").glob("0*.py"):
            assert not any(name[0] in APPS for name in imported(path)), path
