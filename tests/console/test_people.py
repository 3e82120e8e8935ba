"""Adding a user, their invitation, their own page, and their role."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.test import Client
from django.utils.formats import date_format
from django.utils.timezone import now

from admin_console.views import people
from notifications import customising
from notifications.emails import KINDS
from notifications.models import MailIdentity, Notification, ReplyTo, Suppression, Wording
from notifications.people import edit, invite
from notifications.queries import retryable
from products.people import add_person
from tests.factories import give, held_by, ids, limit, make_group, make_holders, make_user
from tests.mail import ScriptedServer, smtp_script
from tests.notifications.test_delivery import deliver
from users import invitations
from users.actions import delete_group
from users.models import Action, AdminAction, Role, User

pytestmark = pytest.mark.django_db
__all__ = ["smtp_script"]
PASSWORD = "correct horse battery staple"


def filled(**fields: Any) -> dict[str, Any]:
    return {"first_name": "Grace", "last_name": "Hopper", "email": "grace@people.example", "role": "MEMBER", **fields}


def link_in(server: ScriptedServer) -> str:
    """Return the path of the link in the last email."""
    found = re.search(rf"^{settings.CONSOLE_URL}(/invitation/\S+)$", server.messages[-1].text, re.MULTILINE)
    assert found
    return found[1]


def kinds_owed_to(user: User) -> set[str]:
    return set(Notification.objects.filter(user=user).values_list("kind", flat=True))


@pytest.mark.usefixtures("ada")
class TestAddUser:
    def test_the_form_opens(self, client: Client) -> None:
        response = client.get("/users/add/")

        assert response.status_code == 200
        assert b"Products to begin with" in response.content

    def test_a_user_is_added_with_groups_products_and_an_invitation(self, client: Client) -> None:
        sales = make_group("Sales")

        asked = filled(language="fr", groups=[sales.pk], products=ids("rescue", "meeting"), invited="on")
        response = client.post("/users/add/", asked)

        grace = User.objects.get(email="grace@people.example")
        assert response["Location"] == f"/users/{grace.pk}/"
        assert (grace.name, grace.language, list(grace.groups.all())) == ("Grace Hopper", "fr", [sales])
        assert held_by(grace) == {"rescue", "meeting"}
        assert kinds_owed_to(grace) == {"INVITATION", "ONBOARDING"}

    def test_without_the_tick_nobody_is_invited(self, client: Client) -> None:
        client.post("/users/add/", filled())

        assert kinds_owed_to(User.objects.get(email="grace@people.example")) == set()

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"email": "nobody"}, "is not an email"),
            ({"email": "ada@people.example"}, "There is a user with this email already."),
            ({"invited": "on"}, "A Member without products cannot sign in"),
            ({"invited": "on", "email": "ada(at)people.example"}, "is not an email"),
            ({"role": "SUPER_ADMIN"}, "not one of the available choices"),
            ({"products": ["x"]}, "not one of the available choices"),
        ],
    )
    def test_refused_the_form_keeps_what_was_filled_in(self, client: Client, fields: dict[str, Any], said: str) -> None:
        make_user(email="ada@people.example")

        response = client.post("/users/add/", filled(**fields))

        assert response.status_code == 422
        assert said in response.text
        assert 'value="Hopper"' in response.text
        assert not User.objects.filter(last_name="Hopper").exists()

    def test_short_of_seats_nobody_is_added(self, client: Client) -> None:
        make_holders(1, "rescue")
        limit("rescue", 1)

        response = client.post("/users/add/", filled(products=ids("rescue"), invited="on"))

        assert response.status_code == 422
        assert 'id="id_products_error"' in response.text
        assert not User.objects.filter(last_name="Hopper").exists()
        assert not Notification.objects.exists()

    def test_a_manager_is_added_with_the_groups_they_manage(self, client: Client) -> None:
        client.force_login(make_user(role=Role.SUPER_ADMIN))
        sales, web = make_group("Sales"), make_group("Web")
        assert "Managed groups" in client.get("/users/add/").text

        client.post("/users/add/", filled(role="MANAGER", groups=[web.pk], manages=[sales.pk]))
        client.post("/users/add/", filled(email="mia@people.example", manages=[sales.pk]))

        grace, mia = (User.objects.get(email=f"{name}@people.example") for name in ("grace", "mia"))
        assert (list(grace.groups.all()), list(grace.managed_groups.all())) == ([web], [sales])
        assert AdminAction.objects.get(action=Action.USER_MANAGED_GROUPS_CHANGED, subject_id=grace.pk).after == {
            "groups": [sales.pk]
        }
        assert not mia.managed_groups.exists()  # no Manager

    @pytest.mark.parametrize("groups", [0, 1])
    def test_a_manager_of_no_group_is_refused_beside_the_groups(self, client: Client, groups: int) -> None:
        client.force_login(make_user(role=Role.SUPER_ADMIN))
        for _group in range(groups):
            make_group()

        response = client.post("/users/add/", filled(role="MANAGER"))

        assert response.status_code == 422
        assert "Choose at least one user group: a Manager of none sees nobody." in response.text
        assert 'class="of-managers"' not in response.text  # shown, whatever the browser makes of the role
        assert not User.objects.filter(last_name="Hopper").exists()

    def test_who_may_not_make_managers_is_offered_no_groups_to_manage(self, client: Client) -> None:
        sales = make_group("Sales")
        assert "Managed groups" not in client.get("/users/add/").text

        client.post("/users/add/", filled(manages=[sales.pk]))
        assert not User.objects.get(last_name="Hopper").managed_groups.exists()

    def test_a_group_that_is_deleted_meanwhile_is_said(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        sales = make_group("Sales")

        def deleted_first(**asked: Any) -> User:
            delete_group(actor=make_user(role=Role.ADMIN), group=sales)
            return add_person(**asked)

        monkeypatch.setattr("admin_console.views.people.add_person", deleted_first)
        response = client.post("/users/add/", filled(groups=[sales.pk]))

        assert response.status_code == 422
        assert "A user group that you chose was deleted meanwhile." in response.text
        assert not User.objects.filter(last_name="Hopper").exists()

    def test_a_manager_adds_nobody(self, client: Client) -> None:
        client.force_login(make_user(role=Role.MANAGER))

        assert client.get("/users/add/").status_code == 403
        assert client.post("/users/add/", filled()).status_code == 403


class TestEditUser:
    NEWS = {"first_name": "Jörg", "last_name": "Müller", "email": "joerg@people.example"}

    def test_a_name_and_an_email_are_corrected_where_the_users_page_leads(self, client: Client, ada: User) -> None:
        user = make_user("Jorg Muller", email="jorg@people.example")
        assert f'href="/users/{user.pk}/edit/"' in client.get(f"/users/{user.pk}/").text
        form = client.get(f"/users/{user.pk}/edit/").text
        assert 'value="Muller"' in form
        assert 'value="jorg@people.example"' in form

        response = client.post(f"/users/{user.pk}/edit/", self.NEWS, follow=True)

        assert response.redirect_chain == [(f"/users/{user.pk}/", 303)]
        assert "Name and email are saved." in response.text
        assert "Jörg Müller" in response.text
        assert User.objects.get(pk=user.pk).email == "joerg@people.example"
        assert AdminAction.objects.get(action=Action.USER_EDITED).actor == ada

    @pytest.mark.usefixtures("ada")
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"email": "nobody"}, "is not an email"),
            ({"email": ""}, "This field is required."),
            ({"email": "Grace@people.EXAMPLE"}, "There is a user with this email already."),
        ],
    )
    def test_refused_the_form_keeps_what_was_filled_in(self, client: Client, fields: dict[str, str], said: str) -> None:
        make_user(email="grace@people.example")
        user = make_user("Jorg Muller")

        response = client.post(f"/users/{user.pk}/edit/", self.NEWS | fields)

        assert response.status_code == 422
        assert said in response.text.partition('id="id_email_error"')[2]
        assert 'value="Müller"' in response.text
        assert User.objects.get(pk=user.pk).name == "Jorg Muller"

    @pytest.mark.usefixtures("ada")
    @pytest.mark.parametrize("role", [role for role in Role if role != Role.MEMBER])
    def test_an_admin_corrects_members_only(self, client: Client, role: Role) -> None:
        sue = make_user("Sue Super", email="sue@people.example", role=role)
        assert f"/users/{sue.pk}/edit/" not in client.get(f"/users/{sue.pk}/").text

        for response in (client.get(f"/users/{sue.pk}/edit/"), client.post(f"/users/{sue.pk}/edit/", self.NEWS)):
            assert response.status_code == 403
            assert "their name and email are not yours to change" in response.text
        assert User.objects.get(pk=sue.pk).name == "Sue Super"

    def test_an_admin_corrects_their_own_name_and_sees_their_email_only(self, client: Client, ada: User) -> None:
        assert f"/users/{ada.pk}/edit/" in client.get(f"/users/{ada.pk}/").text
        form = client.get(f"/users/{ada.pk}/edit/").text
        assert re.search(r'name="email"[^>]* readonly', form)
        assert "Your email is not yours to change" in form

        refused = client.post(f"/users/{ada.pk}/edit/", self.NEWS)
        client.post(f"/users/{ada.pk}/edit/", self.NEWS | {"email": ada.email})

        assert refused.status_code == 422
        assert "please ask a Super admin" in refused.text.partition('id="id_email_error"')[2]
        assert User.objects.filter(pk=ada.pk, last_name="Müller", email=ada.email).exists()

    def test_that_nobody_could_sign_in_any_more_is_said_beside_the_email(self, client: Client) -> None:
        sue, other = make_user("Sue Super", role=Role.SUPER_ADMIN), make_user(role=Role.SUPER_ADMIN, password="!lost meanwhile")
        client.force_login(other)

        response = client.post(f"/users/{sue.pk}/edit/", self.NEWS)

        assert response.status_code == 422
        assert "This is the last Super admin who can sign in" in response.text.partition('id="id_email_error"')[2]
        assert User.objects.get(pk=sue.pk).name == "Sue Super"
        assert not Notification.objects.exists()

    def test_both_addresses_are_told_of_another_email(self, client: Client, ada: User, smtp_script: ScriptedServer) -> None:
        grace = give(make_user("Grace Hopper", email="old@people.example"), "rescue")

        client.post(f"/users/{grace.pk}/edit/", filled())
        deliver()

        told = {message.recipients[0]: message for message in smtp_script.messages}
        assert told.keys() == {"old@people.example", "grace@people.example"}
        for message in told.values():
            for part in (" ".join(message.text.split()), " ".join(message.html.split())):
                assert f"An administrator of {settings.ORGANISATION_NAME} has changed the email address of your account." in part
                assert ada.name not in part
        old, new = told["old@people.example"], told["grace@people.example"]
        assert "It was old@people.example." in old.text
        assert "If this change surprises you, ask an administrator" in old.text
        for hidden in ("grace@people.example", "Hopper"):  # nobody knows who reads it
            assert hidden not in old.text + old.html + str(old.message)
        assert "From now on you sign in with grace@people.example." in new.text
        assert f"\n{settings.CONSOLE_URL}/accounts/password/reset/\n" in new.text
        assert f'href="{settings.CONSOLE_URL}/accounts/password/reset/"' in new.html
        sent = Notification.objects.filter(user=grace).values_list("kind", "to_address", "state")
        assert set(sent) == {
            ("OLD_EMAIL", "old@people.example", "SENT"),
            ("NEW_EMAIL", "grace@people.example", "SENT"),
        }

    @pytest.mark.usefixtures("ada")
    def test_the_user_chooses_a_password_on_the_page_that_the_new_address_is_told(
        self, client: Client, smtp_script: ScriptedServer
    ) -> None:
        grace = give(make_user("Grace Hopper", email="old@people.example"), "rescue")
        client.post(f"/users/{grace.pk}/edit/", filled())

        Client().post("/accounts/password/reset/", {"email": "grace@people.example"})
        deliver()

        assert smtp_script.messages[-1].recipients == ["grace@people.example"]
        assert f"{settings.CONSOLE_URL}/accounts/password/reset/key/" in smtp_script.messages[-1].text

    @pytest.mark.usefixtures("ada")
    def test_a_name_is_corrected_without_an_email(self, client: Client) -> None:
        grace = make_user("Grace Hoper", email="grace@people.example")

        client.post(f"/users/{grace.pk}/edit/", filled())

        assert User.objects.get(pk=grace.pk).has_usable_password()
        assert not Notification.objects.exists()

    @pytest.mark.usefixtures("ada")
    def test_an_old_address_that_is_suppressed_is_not_written_to_and_the_new_one_is(
        self, client: Client, smtp_script: ScriptedServer
    ) -> None:
        grace = make_user("Grace Hopper", email="old@people.example")
        Suppression.objects.create(
            address="old@people.example", reason="unknown", source="REFUSED", failed_at=now(), since=now(), failures=2
        )

        client.post(f"/users/{grace.pk}/edit/", filled())
        deliver()

        assert [message.recipients for message in smtp_script.messages] == [["grace@people.example"]]
        failed = Notification.objects.filter(retryable(now())).get(kind="OLD_EMAIL")
        assert failed.last_words.startswith("Not tried: the address is suppressed")
        assert "Nobody writes to old@people.example since" in client.get(f"/notifications/{failed.pk}/").text

    def test_an_old_address_is_told_neither_who_nor_where_its_user_is_now(
        self, client: Client, smtp_script: ScriptedServer
    ) -> None:
        sue = make_user("Sue Super", email="old@people.example", role=Role.SUPER_ADMIN)
        MailIdentity.objects.create(names_actor=True, reply_to=ReplyTo.ACTOR)
        greeting: dict[str, Any] = {"subject": "[[reader]]", "html": "<p>Hello [[reader]]!</p>", "text": ""}
        with pytest.raises(customising.Refused, match=r"There is no placeholder \[\[reader\]\]"):
            customising.checked(KINDS["OLD_EMAIL"], **greeting)
        Wording.objects.create(kind="OLD_EMAIL", language="en", number=1, made_at=now(), made_by=sue, **greeting)  # kept
        client.force_login(sue)

        client.post(f"/users/{sue.pk}/edit/", self.NEWS)
        deliver()

        [told] = smtp_script.messages
        assert told.recipients == ["old@people.example"]
        assert "Hello !" in told.text
        for hidden in ("joerg", "Jörg", "Müller", "Sue", "Super"):
            assert hidden not in told.text + told.html + str(told.message)

    @pytest.mark.usefixtures("ada")
    def test_of_two_corrections_each_earlier_address_is_told_and_the_last_new_one(
        self, client: Client, smtp_script: ScriptedServer
    ) -> None:
        grace = make_user("Grace Hopper", email="old@people.example")
        for email in ("typo@people.example", "grace@people.example"):
            client.post(f"/users/{grace.pk}/edit/", filled(email=email))

        deliver()

        fates = set(Notification.objects.values_list("kind", "to_address", "state"))
        assert fates == {
            ("OLD_EMAIL", "old@people.example", "SENT"),
            ("NEW_EMAIL", "", "NEEDLESS"),
            ("OLD_EMAIL", "typo@people.example", "SENT"),
            ("NEW_EMAIL", "grace@people.example", "SENT"),
        }

    @pytest.mark.usefixtures("ada")
    def test_who_had_an_invitation_is_invited_afresh_at_the_new_address(
        self, client: Client, smtp_script: ScriptedServer
    ) -> None:
        grace = give(make_user("Grace Hopper", email="old@people.example", password="!never"), "rescue")
        client.post(f"/users/{grace.pk}/invite/")
        deliver()
        first = link_in(smtp_script)
        page = client.post(f"/users/{grace.pk}/edit/", filled(), follow=True)
        assert "Send the invitation again" in page.text
        assert "Welcome, Grace Hopper." not in Client().get(first).text

        client.post(f"/users/{grace.pk}/invite/")
        deliver()

        assert smtp_script.messages[-1].recipients == ["grace@people.example"]
        assert "Welcome, Grace Hopper." in Client().get(link_in(smtp_script)).text

    def test_whoever_corrects_their_own_email_stays_signed_in_and_is_signed_out_elsewhere(self, client: Client) -> None:
        sue, elsewhere = make_user("Sue Super", role=Role.SUPER_ADMIN), Client()
        client.force_login(sue)
        elsewhere.force_login(sue)

        client.post(f"/users/{sue.pk}/edit/", self.NEWS)

        assert kinds_owed_to(sue) == {"OLD_EMAIL"}
        assert client.get(f"/users/{sue.pk}/").status_code == 200
        assert elsewhere.get(f"/users/{sue.pk}/")["Location"].startswith("/accounts/login/")

    @pytest.mark.parametrize("own", [NEWS, {**NEWS, "email": "sue@people.example"}], ids=["another email", "another name"])
    def test_whoever_corrects_themselves_is_not_signed_in_as_who_has_another_address_meanwhile(
        self, monkeypatch: pytest.MonkeyPatch, client: Client, own: dict[str, str]
    ) -> None:
        sue, other = (make_user(email=f"{name}@people.example", role=Role.SUPER_ADMIN) for name in ("sue", "other"))
        rescued = {"first_name": "Sue", "last_name": "Super", "email": "rescued@people.example"}
        monkeypatch.setattr(people, "ring", lambda: edit(actor=other, user=sue, **rescued))
        client.force_login(sue)

        client.post(f"/users/{sue.pk}/edit/", own)

        assert User.objects.get(pk=sue.pk).email == "rescued@people.example"
        assert client.get(f"/users/{sue.pk}/")["Location"].startswith("/accounts/login/")

    def test_who_was_given_another_email_meanwhile_does_not_take_it_back(
        self, monkeypatch: pytest.MonkeyPatch, client: Client
    ) -> None:
        sue, other = (make_user(email=f"{name}@people.example", role=Role.SUPER_ADMIN) for name in ("sue", "other"))
        rescued = {"first_name": "Sue", "last_name": "Super", "email": "rescued@people.example"}

        def second(**asked: Any) -> str | None:
            edit(actor=other, user=sue, **rescued)
            return edit(**asked)

        monkeypatch.setattr(people, "edit", second)
        client.force_login(sue)

        assert client.post(f"/users/{sue.pk}/edit/", self.NEWS).status_code == 422

        assert User.objects.get(pk=sue.pk).email == "rescued@people.example"
        assert client.get(f"/users/{sue.pk}/")["Location"].startswith("/accounts/login/")

    @pytest.mark.usefixtures("ada")
    def test_what_waits_goes_to_the_new_address(self, client: Client, smtp_script: ScriptedServer) -> None:
        grace = give(make_user("Grace Hopper", email="wrong@people.example", password="!never"), "rescue")
        client.post(f"/users/{grace.pk}/invite/")
        client.post(f"/users/{grace.pk}/edit/", filled())

        deliver()

        [invitation] = [each for each in smtp_script.messages if "/invitation/" in each.text]
        assert invitation.message["To"] == "grace@people.example"
        smtp_script.messages[:] = [invitation]
        assert "Welcome, Grace Hopper." in Client().get(link_in(smtp_script)).text  # made when it is sent, so it is not over

    @pytest.mark.parametrize("role", [Role.MANAGER, Role.SUPPORT])
    def test_who_does_not_manage_users_edits_nobody(self, client: Client, role: Role) -> None:
        sales = make_group()
        user = make_user(groups=[sales])
        client.force_login(make_user(role=role, manages=[sales]))

        assert "/edit/" not in client.get(f"/users/{user.pk}/").text
        assert client.get(f"/users/{user.pk}/edit/").status_code == 403
        assert client.post(f"/users/{user.pk}/edit/", self.NEWS).status_code == 403

    @pytest.mark.usefixtures("ada")
    def test_nobody_who_is_not_there_or_was_erased_is_edited(self, client: Client) -> None:
        erased = make_user(email="7@erased.invalid")

        assert "/edit/" not in client.get(f"/users/{erased.pk}/").text
        for number in (erased.pk, erased.pk + 1000):
            assert client.get(f"/users/{number}/edit/").status_code == 404
            assert client.post(f"/users/{number}/edit/", self.NEWS).status_code == 404


class TestInvitation:
    def test_its_link_lets_one_choose_a_password_and_leads_to_ones_own_page(
        self, client: Client, smtp_script: ScriptedServer
    ) -> None:
        grace = give(make_user("Grace Hopper"), "rescue")
        User.objects.filter(pk=grace.pk).update(password="!never")
        invite(actor=make_user("Ada Admin", role=Role.ADMIN), user=grace, now=now())
        deliver()
        link = link_in(smtp_script)

        opened = client.get(link)
        chosen = {"new_password1": PASSWORD, "new_password2": PASSWORD, "language": "nl", "time_zone": "Europe/Amsterdam"}
        accepted = client.post(link, chosen)
        own = client.get("/me/")

        assert "Welcome, Grace Hopper." in opened.text
        assert accepted["Location"] == "/me/"
        assert SESSION_KEY in client.session
        assert "Rescue" in own.text
        grace.refresh_from_db()
        assert (grace.language, grace.time_zone) == ("nl", "Europe/Amsterdam")
        assert grace.check_password(PASSWORD)
        assert Client().get(link).status_code == 410
        assert Client().post(link, chosen).status_code == 410

    def test_it_says_what_one_holds_and_how_long_the_link_works(self, smtp_script: ScriptedServer) -> None:
        grace = give(make_user("Grace Hopper", password="!never"), "rescue")
        invite(actor=make_user(role=Role.ADMIN), user=grace, now=now())

        deliver()

        [received] = smtp_script.messages
        assert received.message["Subject"] == "Welcome to Aldermoor: choose your password"
        assert "What you can use now:\n  * Rescue" in received.text
        assert date_format(now() + invitations.LIFETIME, "DATE_FORMAT") in received.text

    def test_its_link_ends(self) -> None:
        grace = give(make_user(password="!never"), "rescue")
        token = invitations.token_of(grace, invited_at=now())

        assert invitations.invited_by(token, now=now() + timedelta(days=6)) == grace
        for wrong in (token[:-1], f"1{token}", token.replace(str(grace.pk), str(grace.pk + 1), 1), ""):
            with pytest.raises(invitations.InvitationOver):
                invitations.invited_by(wrong, now=now())
        with pytest.raises(invitations.InvitationOver):
            invitations.invited_by(token, now=now() + timedelta(days=8))

    def test_a_weak_password_is_refused_beside_its_field(self, client: Client) -> None:
        grace = give(make_user(password="!never"), "rescue")
        token = invitations.token_of(grace, invited_at=now())

        response = client.post(f"/invitation/{token}/", {"new_password1": "short", "new_password2": "short"})

        assert response.status_code == 422
        assert "at least 12 characters" in response.text

    def test_who_holds_nothing_meanwhile_is_told_why_they_are_not_let_in(self, client: Client) -> None:
        token = invitations.token_of(make_user(password="!never"), invited_at=now())

        response = client.post(f"/invitation/{token}/", {"new_password1": PASSWORD, "new_password2": PASSWORD})

        assert "You have no products at the moment" in response.text
        assert SESSION_KEY not in client.session

    @pytest.mark.usefixtures("ada", "smtp_script")
    def test_it_is_sent_again_and_the_page_counts(self, client: Client) -> None:
        grace = give(make_user("Grace Hopper", password="!never"), "rescue")

        for _time in range(2):
            client.post(f"/users/{grace.pk}/invite/")
            deliver()

        assert Notification.objects.filter(user=grace, kind="INVITATION").count() == 2
        page = client.get(f"/users/{grace.pk}/").text
        assert "2 sent" in page
        assert "Send the invitation again" in page

    @pytest.mark.usefixtures("ada")
    def test_one_that_waits_is_the_one_that_goes(self, client: Client) -> None:
        grace = give(make_user("Grace Hopper", password="!never"), "rescue")

        for said in ("The invitation is on its way.", "An invitation waits to be sent already."):
            assert said in client.post(f"/users/{grace.pk}/invite/", follow=True).text

        assert "1 sent" in client.get(f"/users/{grace.pk}/").text

    @pytest.mark.usefixtures("ada")
    def test_nobody_is_invited_who_could_not_sign_in_or_has_a_password(self, client: Client) -> None:
        suspended, signed_up = make_user(password="!never"), give(make_user(password="md5$x$y"), "rescue")

        for user in (suspended, signed_up):
            client.post(f"/users/{user.pk}/invite/")

        assert not Notification.objects.exists()


class TestOwnPage:
    def test_it_says_since_when_and_takes_language_and_time_zone(self, client: Client) -> None:
        mia = give(make_user("Mia Member"), "meeting")
        client.force_login(mia)

        saved = client.post("/me/", {"language": "de", "time_zone": "Europe/Berlin"})
        page = client.get("/me/").text

        assert saved["Location"] == "/me/"
        mia.refresh_from_db()
        assert (mia.language, mia.time_zone) == ("de", "Europe/Berlin")
        assert '<option value="de" selected>' in page
        assert "Abmelden" in page

    def test_an_unknown_time_zone_is_refused(self, client: Client) -> None:
        client.force_login(give(make_user(), "meeting"))

        assert client.post("/me/", {"language": "de", "time_zone": "Mars/Base"}).status_code == 422


class TestRole:
    def test_a_role_is_given_and_told(self, client: Client, smtp_script: ScriptedServer) -> None:
        client.force_login(make_user("Sue Super", role=Role.SUPER_ADMIN))
        grace = give(make_user("Grace Hopper"), "rescue")

        response = client.post(f"/users/{grace.pk}/role/", {"role": "ADMIN"})
        deliver()

        grace.refresh_from_db()
        assert (response["Location"], grace.role) == (f"/users/{grace.pk}/", Role.ADMIN)
        [received] = smtp_script.messages
        assert received.message["Subject"] == "Your role at Aldermoor has changed"
        assert "It was “Member” and is “Admin” now." in received.text
        assert "  * Set the products of users" in received.text
        assert "What you can use now:\n  * Rescue" in received.text

    def test_quietly_nobody_is_told(self, client: Client) -> None:
        client.force_login(make_user(role=Role.SUPER_ADMIN))
        grace = make_user()

        client.post(f"/users/{grace.pk}/role/", {"role": "ADMIN", "quiet": "on"})

        assert not Notification.objects.exists()

    def test_the_last_super_admin_keeps_the_role(self, client: Client) -> None:
        sue = make_user(role=Role.SUPER_ADMIN)
        client.force_login(sue)

        response = client.post(f"/users/{sue.pk}/role/", {"role": "MEMBER"})

        assert response.status_code == 422
        assert "This is the last Super admin" in response.text

    def test_an_admin_gives_no_role(self, client: Client, ada: User) -> None:
        assert client.get(f"/users/{ada.pk}/role/").status_code == 403
