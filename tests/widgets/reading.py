"""Hostile text, and what a browser would find in a piece of HTML."""

import html.parser

HERE = ("tiny", "long-to-short")
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>&lt;b&gt; &amp; \" ' `x` **bold** [a](javascript:alert(3)) "
    "$\\href{x}{y}$ \\(x\\) "
    "\x1b[31mred\x1b[0m \x00 \u202etxet\u202c \u2066x \u200b \ud800 </div></section><style>*{display:none}</style> wait"
)


class Reader(html.parser.HTMLParser):
    """Tags, attributes and text as a browser would find them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data
