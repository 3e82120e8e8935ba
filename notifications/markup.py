"""The HTML that a person writes for an email: made harmless, dressed for mail programs, and told as text."""

import re
from html import escape, unescape
from html.parser import HTMLParser

import nh3
from django.utils.translation import gettext as _

from notifications.placeholders import Mistake, Placeholder

TAGS = {"p", "br", "strong", "b", "em", "i", "a", "ul", "ol", "li", "h2", "h3", "blockquote", "hr"}
SCHEMES = {"https", "http", "mailto", "tel"}
FONT = "Arial,Helvetica,sans-serif"
# Mail programs know few selectors, so each element carries its look; the classes are for the dark (templates/emails/frame.html).
LOOKS = {
    "p": {"style": "margin:0 0 16px;"},
    "ul": {"style": "margin:0 0 16px;padding:0 0 0 24px;"},
    "ol": {"style": "margin:0 0 16px;padding:0 0 0 24px;"},
    "li": {"style": "margin:0 0 8px;"},
    "h2": {"class": "ink", "style": f"margin:24px 0 8px;font:700 18px/26px {FONT};color:#1a2028;"},
    "h3": {"class": "soft", "style": f"margin:0 0 4px;font:600 14px/20px {FONT};color:#5a6675;"},
    "blockquote": {"class": "soft", "style": "margin:0 0 16px;padding:0 0 0 12px;border-left:3px solid #d9dee6;"},
    "hr": {"style": "margin:24px 0;border:0;border-top:1px solid #d9dee6;"},
}
_LINK = re.compile(r'<a href="([^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)
# As browsers read it, not as the standard has it: slashes of either kind, as many as there are.
_HOST = re.compile(r"\s*https?:[/\\]*(?:[^/\\?#]*@)?(\[[^]]*\]|[^/\\?#:]*)", re.IGNORECASE)


def harmless(html: str) -> str:
    """Return the HTML with only what an email may hold: paragraphs, lists, emphasis, links.

    Raises Mistake when a placeholder stands in the address of a link, where it could lead anywhere.
    """
    in_attributes = []

    def seen(tag: str, attribute: str, value: str) -> str:
        if "[[" in unescape(value):
            in_attributes.append(value)
        return value

    found = nh3.clean(
        html,
        tags=TAGS,
        attributes={"a": {"href"}},
        attribute_filter=seen,
        clean_content_tags={"script", "style", "title", "template"},
        url_schemes=SCHEMES,
        url_relative="deny",
        link_rel=None,
    )
    if in_attributes:
        raise Mistake(_("A placeholder cannot stand in the address of a link."))
    return found.strip()


def check_blocks(html: str, known: list[Placeholder]) -> None:
    """See that placeholders for more than a line stand in paragraphs of their own. Raises Mistake."""
    for block in (placeholder for placeholder in known if placeholder.is_block):
        if re.search(re.escape(str(block)), _alone(html, [block.name], "")):
            raise Mistake(
                _("%(placeholder)s is more than a line: it has to stand in a paragraph of its own.") % {"placeholder": block}
            )


def dressed(html: str, *, accent: str, blocks: list[str]) -> str:
    """Return harmless HTML with the look of our emails; links tell their host, blocks stand outside of paragraphs."""
    looks = {**LOOKS, "a": {"class": "link", "style": f"color:{accent};overflow-wrap:anywhere;"}}
    found = nh3.clean(
        html, tags=TAGS, attributes={"a": {"href"}}, url_schemes=SCHEMES, link_rel=None, set_tag_attribute_values=looks
    )
    # A line for each paragraph, for mail servers refuse long ones.
    return re.sub(r"(</(?:p|li|ul|ol|h2|h3|blockquote)>)\n*", r"\1\n", _alone(_LINK.sub(_with_host, found), blocks, r"[[\1]]"))


def as_text(html: str) -> str:
    """Return harmless HTML as the text part says it."""
    teller = _Teller()
    teller.feed(html)
    teller.close()
    return teller.text()


def _alone(html: str, blocks: list[str], instead: str) -> str:
    """Return the HTML with `instead` for each paragraph that holds nothing but a block."""
    names = "|".join(blocks) or "(?!)"
    return re.sub(rf"<p[^>]*>\s*\[\[ ?({names}) ?\]\]\s*</p>", instead, html)


def _with_host(link: re.Match[str]) -> str:
    """Return a link that shows the host it leads to, unless its words do: the whole host, not as a part of another one."""
    leads_to = _HOST.match(re.sub(r"[\t\r\n]", "", unescape(link[1])))
    host = escape(leads_to[1].lower()) if leads_to else ""
    shown = re.sub("<[^>]*>", "", link[3]).lower()
    is_told = not host or re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)", shown)
    return f'<a href="{link[1]}"{link[2]}>{link[3] if is_told else f"{link[3]} ({host})"}</a>'


class _Teller(HTMLParser):
    """Writes paragraphs between empty lines, items behind dashes or numbers, and the address of a link behind its words."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = [""]
        self.lists: list[int | None] = []
        self.links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        match tag:
            case "br":
                self._say("\n")
            case "p" | "h2" | "h3" | "blockquote":
                self._begin()
            case "hr":
                self._begin()
                self._say("---")
                self._begin()
            case "ul" | "ol":
                self._begin()
                self.lists.append(1 if tag == "ol" else None)
            case "li":
                number = self.lists[-1] if self.lists else None
                self._say(("\n" if self.paragraphs[-1] else "") + (f"  {number}. " if number else "  - "))
                if number:
                    self.lists[-1] = number + 1
            case "a":
                self.links.append((dict(attrs).get("href") or "", len(self.paragraphs[-1])))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "h2", "h3", "blockquote"):
            self._begin()
        elif tag in ("ul", "ol"):
            del self.lists[-1:]
            self._begin()
        elif tag == "a" and self.links:
            address, start = self.links.pop()
            address = address.removeprefix("mailto:").removeprefix("tel:")
            if address and address not in self.paragraphs[-1][start:]:
                self._say(f" ({address})")

    def handle_data(self, data: str) -> None:
        words = re.sub(r"\s+", " ", data)
        before = self.paragraphs[-1]
        self._say(words.lstrip() if not before or before.endswith((" ", "\n")) else words)

    def text(self) -> str:
        told = (re.sub(r" +\n", "\n", paragraph).strip("\n").rstrip() for paragraph in self.paragraphs)
        return "\n\n".join(paragraph for paragraph in told if paragraph)

    def _say(self, words: str) -> None:
        self.paragraphs[-1] += words

    def _begin(self) -> None:
        if self.paragraphs[-1].strip() and not self.lists:
            self.paragraphs.append("")
