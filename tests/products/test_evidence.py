"""Evidence packs: the rows that were asked for, signed, and verified offline by one file that needs nothing of the console."""

import csv
import hashlib
import io
import json
import subprocess
import sys
import warnings
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from products import checkpoints, evidence, verify_pack
from products.erasure import erase_user
from products.evidence import HistoryFilter, InvalidHistoryFilter, path_of
from products.models import AccessChange, BulkChange, Checkpoint, EvidencePack
from products.sealing import seal
from tests.database import Database
from tests.factories import change, give, ids, make_group, make_user
from users.models import Action, AdminAction, Role, User


@pytest.fixture
def support(committed_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """Return a support person, whose packs are put into a folder of this test."""
    monkeypatch.setattr(settings, "EVIDENCE_FOLDER", tmp_path / "evidence")
    return make_user("Sam Support", role=Role.SUPPORT)


def made(actor: User, **wanted: Any) -> EvidencePack:
    """Return a finished pack."""
    pack = evidence.request_pack(actor=actor, wanted=HistoryFilter.from_query(wanted), now=timezone.now())
    while evidence.advance(pack_id=pack.pk, now=timezone.now()):
        pass
    pack.refresh_from_db()
    assert pack.state == EvidencePack.State.READY
    return pack


def verified(pack: Path, *, key: str = "") -> tuple[int, str]:
    """Run the verifier as an auditor does, without anything of the console; return its exit code and what it said."""
    with zipfile.ZipFile(pack) as archive:
        archive.extract("verify.py", pack.parent)
    asked = [sys.executable, "-I", str(pack.parent / "verify.py"), str(pack), *(["--key", key] if key else [])]
    done = subprocess.run(asked, capture_output=True, text=True, cwd="/", env={})
    return done.returncode, done.stdout + done.stderr


def rewritten(pack: Path, name: str, old: bytes, new: bytes) -> Path:
    """Return a copy of a pack with something else in one of its files."""
    other = pack.with_name(f"other-{name.replace('/', '-')}-{len(new)}.zip")
    with zipfile.ZipFile(pack) as archive, zipfile.ZipFile(other, "w") as copy:
        for each in archive.namelist():
            text = archive.read(each)
            if each == name:
                assert old in text
                text = text.replace(old, new, 1)
            copy.writestr(each, text)
    return other


def doubled(pack: Path, name: str, other_text: bytes) -> Path:
    """Return a copy of a pack with another text under the name of one of its files, before it: some programs show the first."""
    other = pack.with_name(f"doubled-{name}.zip")
    with zipfile.ZipFile(pack) as archive, zipfile.ZipFile(other, "w") as copy, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for each name that is there already
        copy.writestr(name, other_text)
        for each in archive.namelist():
            copy.writestr(each, archive.read(each))
    return other


def signed_anew(pack: Path, changed: Path) -> Path:
    """Return the changed pack as whoever has the key could sign it: with the digests of the changed files."""
    other = changed.with_name(f"signed-{changed.name}")
    with zipfile.ZipFile(changed) as archive, zipfile.ZipFile(other, "w") as copy:
        manifest = json.loads(archive.read("manifest.json"))
        manifest["files"] = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in manifest["files"]}
        text = json.dumps(manifest)
        for each in archive.namelist():
            if each not in ("manifest.json", "manifest.sig"):
                copy.writestr(each, archive.read(each))
        copy.writestr("manifest.json", text)
        copy.writestr("manifest.sig", checkpoints.sign(text))
    return other


def test_a_pack_is_verified_by_a_checkpoint_of_our_own_whatever_others_put_beside_it(support: User) -> None:
    give(make_user(), "meeting")
    seal()
    checkpoints.make(now=timezone.now())
    Checkpoint.objects.create(at=timezone.now(), payload="not JSON", signature="cd" * 64, key=checkpoints.public_key())

    code, said = verified(path_of(made(support)), key=checkpoints.public_key())

    assert (code, said.splitlines()[-1]) == (0, "VERIFIED"), said
    assert "not sealed" not in said.lower()


def test_a_pack_tells_what_was_asked_for_and_is_verified_offline(support: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "WINDOW", 1)
    ada = make_user("=Ada Admin", role=Role.ADMIN)
    grace = make_user("Grace Hopper", email="grace@tests.example")
    give(make_user("Somebody Else"), "meeting")
    seal()
    done = change(ada, [grace], "meeting", "webinar", reason="=HYPERLINK(1)")
    seal()
    change(ada, [grace], "webinar")
    rows = list(AccessChange.objects.filter(user=grace).order_by("id"))

    pack = made(support, person="hopper")
    code, said = verified(path_of(pack), key=checkpoints.public_key())

    assert (code, said.splitlines()[-1]) == (0, "VERIFIED"), said
    assert "Rows: 2," in said
    assert "asked for: user: hopper" in said
    with zipfile.ZipFile(path_of(pack)) as archive:
        names = archive.namelist()
        sealed = [json.loads(line) for name in names if name.startswith("history") and name.endswith(".jsonl")
                  for line in archive.read(name).splitlines()]  # fmt: skip
        sheets = [
            list(csv.reader(io.StringIO(archive.read(name).decode("utf-8-sig")))) for name in names if name.endswith(".csv")
        ]
        told = [json.loads(line) for name in names if name.startswith("changes") for line in archive.read(name).splitlines()]
    assert [row["id"] for row in sealed] == [row.pk for row in rows]
    first = sheets[0][1]
    assert first[2:6] == [str(grace.pk), "Grace Hopper", "grace@tests.example", "GoTo Meeting; GoTo Webinar"]
    assert first[11:14] == ["'=Ada Admin", str(done.pk), "'=HYPERLINK(1)"]
    assert {each["id"] for each in told} == {row.change_id for row in rows}
    assert len(sheets) == 2

    recorded = AdminAction.objects.get(action=Action.EVIDENCE_EXPORTED)
    assert (recorded.actor, recorded.subject_id, recorded.words) == (support, pack.pk, {"person": "hopper", "zone": "UTC"})

    # What is changed afterwards is found, whoever changed it.
    path, row = path_of(pack), json.dumps(rows[0].after, separators=(",", ":")).encode()
    key = checkpoints.public_key()
    forged = rewritten(path, "history-00001.jsonl", b'"after":' + row, b'"after":[]')
    for broken, sentence in [
        (forged, "history-00001.jsonl is not the file that was signed"),
        (doubled(path, "history-00001.csv", b"Nothing happened."), "history-00001.csv is in the pack more than once"),
        (rewritten(path, "manifest.json", b'"rows": 2', b'"rows": 3'), "manifest.json is not signed"),
        (signed_anew(path, forged), f"row {rows[0].pk} is not the one that was sealed in block"),
        (signed_anew(path, rewritten(path, "blocks.jsonl", b'"rows": 1', b'"rows": 9')), "block 1 was changed"),
        (
            signed_anew(path, rewritten(path, "checkpoints.jsonl", b'\\"HISTORY\\"', b'\\"history\\"')),
            "a checkpoint is not signed",
        ),
    ]:
        code, said = verified(broken, key=key)
        assert code == 1
        assert sentence in said
        assert said.splitlines()[-1] == "NOT VERIFIED"
    assert verified(path, key="00" * 32)[0] == 1

    # An empty one is one too; what is asked later is not in one that was asked for before.
    assert verified(path_of(made(support, person="nobody")))[0] == 0


def test_the_same_rows_asked_for_again_while_their_pack_waits_are_the_same_pack(support: User) -> None:
    def asked(actor: User = support, **wanted: Any) -> int:
        return evidence.request_pack(actor=actor, wanted=HistoryFilter.from_query(wanted), now=timezone.now()).pk

    first = asked(person="hopper")
    assert asked(person="hopper") == first
    assert AdminAction.objects.filter(action=Action.EVIDENCE_EXPORTED).count() == 1
    others = {asked(), asked(make_user(role=Role.SUPPORT), person="hopper")}
    give(make_user(), "rescue")
    others |= {again := asked(person="hopper")}
    EvidencePack.objects.filter(pk=again).update(state=EvidencePack.State.READY)
    assert len(others | {first, asked(person="hopper")}) == 5


def test_a_pack_whose_maker_died_is_begun_anew_and_given_up_after_some_attempts(support: User) -> None:
    give(make_user("Grace Hopper"), "meeting")
    at = timezone.now()
    pack = evidence.request_pack(actor=support, wanted=HistoryFilter(), now=at)
    evidence.advance(pack_id=pack.pk, now=at)
    EvidencePack.objects.update(lease_until=at + timedelta(minutes=1))
    path_of(pack).write_bytes(path_of(pack).read_bytes()[:-20])  # the end of a step that was never written

    assert evidence.waiting() == [pack.pk]
    assert not evidence.advance(pack_id=pack.pk, now=at)  # somebody is at it
    later = at + timedelta(minutes=5)
    while evidence.advance(pack_id=pack.pk, now=later):
        pass
    assert verified(path_of(pack))[0] == 0

    EvidencePack.objects.update(state="WAITING", attempts=evidence.ATTEMPTS, lease_until=at)
    assert not evidence.advance(pack_id=pack.pk, now=later)
    assert EvidencePack.objects.get().state == EvidencePack.State.FAILED
    assert evidence.waiting() == []


def test_a_pack_is_kept_for_some_days_with_nothing_left_of_it_afterwards(support: User) -> None:
    give(make_user("Grace Hopper"), "meeting")
    pack = made(support, person="hopper")

    assert evidence.expire(now=timezone.now() + evidence.KEPT - timedelta(minutes=1)) == 0
    assert path_of(pack).exists()
    assert evidence.expire(now=timezone.now() + evidence.KEPT) == 1
    pack.refresh_from_db()
    assert not path_of(pack).exists()
    assert (pack.state, pack.wanted) == (EvidencePack.State.EXPIRED, {})


def test_a_pack_that_was_given_up_is_forgotten_in_time(support: User) -> None:
    at = timezone.now()
    pack = evidence.request_pack(actor=support, wanted=HistoryFilter(person="hopper"), now=at)
    EvidencePack.objects.update(attempts=evidence.ATTEMPTS, lease_until=at)
    evidence.advance(pack_id=pack.pk, now=at)
    assert EvidencePack.objects.get().state == EvidencePack.State.FAILED

    assert evidence.expire(now=at + evidence.KEPT - timedelta(minutes=1)) == 0
    assert evidence.expire(now=at + evidence.KEPT) == 1
    assert EvidencePack.objects.get().wanted == {}


@pytest.mark.parametrize("state", ["WAITING", "READY", "FAILED"])
def test_who_is_erased_is_in_no_pack_any_more(support: User, state: str) -> None:
    grace = give(make_user("Grace Hopper"), "meeting")
    pack = made(support, person="hopper")
    EvidencePack.objects.update(state=state, expires_at=pack.expires_at if state == "READY" else None)

    erase_user(actor=make_user(role=Role.SUPER_ADMIN), user=grace, now=timezone.now())

    pack.refresh_from_db()
    assert (pack.state, pack.wanted, pack.files) == (EvidencePack.State.EXPIRED, {}, {})
    assert not path_of(pack).exists()
    assert evidence.waiting() == []


def test_who_is_erased_while_a_pack_is_written_is_not_written_back(support: User, monkeypatch: pytest.MonkeyPatch) -> None:
    grace, ada = give(make_user("Grace Hopper"), "meeting"), make_user(role=Role.SUPER_ADMIN)
    pack = evidence.request_pack(actor=support, wanted=HistoryFilter(person="hopper"), now=timezone.now())
    write = evidence._Step._write_batch

    def write_and_erase(*args: Any) -> None:
        write(*args)
        erase_user(actor=ada, user=grace, now=timezone.now())

    monkeypatch.setattr(evidence._Step, "_write_batch", write_and_erase)

    assert not evidence.advance(pack_id=pack.pk, now=timezone.now())
    assert path_of(pack).exists()  # the erasure left it to who wrote it
    assert evidence.expire(now=timezone.now()) == 1
    pack.refresh_from_db()
    assert (pack.state, pack.wanted, pack.files) == (EvidencePack.State.EXPIRED, {}, {})
    assert not path_of(pack).exists()


@pytest.mark.django_db
def test_who_may_not_export_evidence_gets_no_pack() -> None:
    with pytest.raises(evidence.NotAllowed):
        evidence.request_pack(actor=make_user(role=Role.ADMIN), wanted=HistoryFilter(), now=timezone.now())


@pytest.mark.django_db
@pytest.mark.parametrize("query", [{"granted": "x"}, {"since": "2026-99-01"}, {"source": "MARS"}, {"zone": "Mars/Base"}])
def test_a_filter_that_cannot_be_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidHistoryFilter):
        HistoryFilter.from_query(query)


@pytest.mark.django_db
def test_the_filter_finds_what_the_list_of_django_admin_finds(client: Any) -> None:
    ada = make_user("Ada Admin", role=Role.ADMIN)
    sales = make_group("Sales")
    grace, alan = make_user("Grace Hopper", groups=[make_group("Benelux", inside=sales)]), give(make_user("Alan"), "webinar")
    first = change(ada, [grace], "meeting", reason="Moves to Paris")
    change(ada, [grace, alan], "webinar")
    client.force_login(make_user(role=Role.SUPPORT))
    meeting, today = ids("meeting")[0], timezone.now().date().isoformat()

    for query in (
        {}, {"person": grace.pk}, {"person": "hopp"}, {"granted": meeting}, {"revoked": meeting}, {"by": "ada"}, {"by": ada.pk},
        {"change": f"#{first.pk}"}, {"source": "HELD_BEFORE"}, {"since": today, "until": today},
        {"since": "2001-01-01", "until": "2001-01-02"},
        {"group": sales.pk}, {"q": "GRACE"}, {"q": f"#{first.pk}"}, {"q": "to paris"},
        {"person": "hopp", "granted": meeting, "by": "ada"},
        {"person": "9" * 18},
    ):  # fmt: skip
        listed = client.get("/admin/products/accesschange/", query, follow=True).context["cl"].result_list
        found = HistoryFilter.from_query(query).rows(now=timezone.now())  # type: ignore[arg-type]
        assert sorted(row.pk for row in listed) == [row.pk for row in found], query
        assert HistoryFilter.from_query(HistoryFilter.from_query(query).as_dict()) == HistoryFilter.from_query(query)  # type: ignore[arg-type]


# The verifier by itself


@pytest.mark.parametrize("text", ["", "a", "entitlement history " * 50])
def test_the_verifier_takes_the_signatures_of_the_console_and_no_others(text: str) -> None:
    key, signature = checkpoints.public_key(), checkpoints.sign(text)
    flipped = f"{int(signature[:2], 16) ^ 1:02x}{signature[2:]}"
    too_great = (
        signature[:64]
        + (int.from_bytes(bytes.fromhex(signature[64:]), "little") + verify_pack.ORDER).to_bytes(32, "little").hex()
    )

    assert verify_pack.is_signed(key, signature, text.encode())
    assert not verify_pack.is_signed(key, signature, text.encode() + b".")
    assert not verify_pack.is_signed(key, flipped, text.encode())
    assert not verify_pack.is_signed(key, too_great, text.encode())
    assert not verify_pack.is_signed("00" * 32, signature, text.encode())
    assert not verify_pack.is_signed(key, "nonsense", text.encode())


def test_the_verifier_knows_the_first_test_of_the_standard() -> None:
    key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )

    assert verify_pack.is_signed(key, signature, b"")


@pytest.mark.django_db
def test_the_verifier_makes_the_digest_of_a_row_as_the_database_does() -> None:
    admin, grace = make_user(role=Role.ADMIN), give(make_user(), "rescue", "meeting")
    change(admin, [grace])
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, leaf FROM products_history_leaf")
        leaves = {pk: bytes(leaf) for pk, leaf in cursor}

    rows = AccessChange.objects.all()
    assert {row.pk: verify_pack.leaf(evidence._sealed(row)) for row in rows} == leaves
    assert BulkChange.objects.exists()
    assert len(leaves) == 2
