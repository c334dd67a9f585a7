#include "page.h"

#include "html.h"

static const char style[] =
    ":root{color-scheme:light dark;--back:#fff;--text:#1c1d21;--soft:#61646e;--line:#dcdee3;--box:#f5f6f8;"
    "--c0:#2563c9;--c1:#c2410c;--c2:#0f8a5f;--c3:#9333c0}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#15171b;--text:#e6e7ea;--soft:#9a9ea8;--line:#33373f;"
    "--box:#1e2126;--c0:#6ea8ff;--c1:#ff9457;--c2:#4ccf9c;--c3:#d08bf2}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--back);color:var(--text);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{margin:.2em 0 0;font-size:1.7rem;overflow-wrap:anywhere}h2{margin:2em 0 .6em;font-size:1.2rem}"
    "h3{margin:0 0 .3em;font-size:1rem;font-weight:600}\n"
    ".note{color:var(--soft)}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.25em 1.2em;margin:0}"
    "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\n"
    "pre{margin:.4em 0;padding:.7em .9em;background:var(--box);border-radius:6px;overflow-x:auto;"
    "font:13px/1.5 ui-monospace,monospace}pre.wrap{white-space:pre-wrap;overflow-wrap:anywhere}\n"
    "code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.6rem}\n"
    "figure{margin:0}figcaption{font-size:.85rem;color:var(--soft)}\n"
    "svg{display:block;width:100%;height:auto}svg text{font:13px system-ui,sans-serif;fill:var(--soft)}"
    "svg .power{font-size:10px}\n"
    "path{fill:none}.grid{stroke:var(--line)}.axis{stroke:var(--soft)}\n"
    ".line{stroke-width:1.8;stroke-linejoin:round}.faint{stroke-width:1;opacity:.35}"
    ".joined{stroke-width:1;stroke-dasharray:3 3}\n"
    ".c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}"
    ".key.c0,circle.c0{fill:var(--c0);color:var(--c0)}.key.c1,circle.c1{fill:var(--c1);color:var(--c1)}"
    ".key.c2,circle.c2{fill:var(--c2);color:var(--c2)}.key.c3,circle.c3{fill:var(--c3);color:var(--c3)}"
    "circle[class]{stroke:none}"
    ".entry{display:inline-block;margin-right:.8em}.pale{opacity:.45}\n"
    ".row{display:flex;margin-top:1rem;flex-wrap:wrap;gap:1rem;align-items:flex-start}.row "
    "figure{max-width:100%}"
    "img{display:block;max-width:100%;height:auto;border-radius:4px}\n"
    "summary{cursor:pointer}\n";

void page_begin(Buffer *b, const char *title)
{
    buffer_add(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    html_text(b, title);
    buffer_add(b, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>", style);
    html_text(b, title);
    buffer_add(b, "</h1>\n");
}

void page_end(Buffer *b)
{
    buffer_add(b, "</body>\n</html>\n");
}
