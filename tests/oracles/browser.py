"""Opens a page in headless Chromium, as an auditor would, and says what it did.

    python browser.py CHROMIUM PAGE [FOLDER]

Prints JSON: for widths of 360 and 1280 px whether the page scrolls sideways and which elements stick out, the
number of scripts in the DOM, dialogs that opened, addresses that were asked for, what the console said, ids of
missing link targets, tables without caption. With FOLDER it leaves pictures there: light, dark, phone, print.
"""

import base64
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

chromium, page = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
shots = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None


class Browser:
    """The DevTools protocol over a pipe: messages end with a zero byte."""

    def __init__(self, profile):
        ours_in, its_out = os.pipe()
        its_in, ours_out = os.pipe()

        def descriptors():
            # 3 and 4 are what it reads and writes; neither may be lost to the other.
            a, b = os.dup(its_in), os.dup(its_out)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            preexec_fn=descriptors, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(its_in)
        os.close(its_out)
        self.incoming, self.outgoing = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self.rest, self.ids, self.events, self.session = b"", itertools.count(1), [], None

    def message(self):
        while b"\0" not in self.rest:
            part = self.incoming.read(1 << 20)
            if not part:
                sys.exit("the browser went away")
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        number = next(self.ids)
        call = {"id": number, "method": method, "params": params}
        if self.session:
            call["sessionId"] = self.session
        self.outgoing.write(json.dumps(call).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.event(message)

    def event(self, message):
        self.events.append(message)
        if message.get("method") == "Page.javascriptDialogOpening":
            self.outgoing.write(
                json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": False},
                            "sessionId": self.session}).encode() + b"\0")  # fmt: skip

    def wait(self, method):
        while not any(e.get("method") == method for e in self.events):
            self.event(self.message())

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


# Elements that a reader can scroll inside of are no reason for the page to scroll.
STICK_OUT = """[...document.querySelectorAll('body *')]
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !e.closest('.scroll, pre, svg, .skip')).slice(0, 5).map(e => e.outerHTML.slice(0, 200))"""


def look(browser, width, height=900, scheme="light"):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait("Page.loadEventFired")
    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    return {
        "width": width,
        "scrolls_sideways": browser.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"),
        "sticks_out": browser.evaluate(STICK_OUT),
        "scripts": browser.evaluate("document.scripts.length"),
        "handlers": browser.evaluate(
            "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length"),
        "foreign": browser.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, form, input').length"),
        "dialogs": sum(e.get("method") == "Page.javascriptDialogOpening" for e in browser.events),
        "requests": [url for url in requests if url != page.as_uri()],
        "console": [e["params"]["entry"]["text"] for e in browser.events if e.get("method") == "Log.entryAdded"],
        "missing_targets": browser.evaluate(
            "[...document.querySelectorAll('a')].map(a => a.getAttribute('href')).filter(h => !h.startsWith('#') || !document.getElementById(h.slice(1)))"),
        "tables_without_caption": browser.evaluate("[...document.querySelectorAll('table')].filter(t => !t.caption).length"),
        "marks": browser.evaluate("typeof window.hacked"),
        "headings": browser.evaluate("[...document.querySelectorAll('h1, h2')].map(h => h.textContent.trim())"),
    }  # fmt: skip


def shot(browser, name):
    picture = browser.call("Page.captureScreenshot", captureBeyondViewport=False)["data"]
    (shots / f"{name}.png").write_bytes(base64.b64decode(picture))


with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    browser = Browser(profile)
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime"):
        browser.call(f"{domain}.enable")
    print(json.dumps([look(browser, 360), look(browser, 1280)]))
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
        for name, width, scheme in [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 360, "light"), ("phone-dark", 360, "dark")]:
            look(browser, width, 1500, scheme)
            tall = browser.evaluate("document.documentElement.scrollHeight")
            for part, top in enumerate(range(0, min(tall, 24000), 1500)):
                browser.evaluate(f"scrollTo(0, {top})")
                shot(browser, f"{name}-{part:02}")
        pdf = browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]
        (shots / "print.pdf").write_bytes(base64.b64decode(pdf))
    browser.session = None
    browser.call("Browser.close")
    browser.process.wait(timeout=20)
