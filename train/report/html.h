/* Texts in an HTML page. */
#ifndef ATL_HTML_H
#define ATL_HTML_H

#include "kernels/base/buffer.h"

/* Adds the text so that a browser shows it as it is, between tags and in quoted attributes: <, >, &, quotes
 * as entities. What no page may hold (control characters, bytes that are not UTF-8) becomes U+FFFD. */
void html_text(Buffer *b, const char *text);

#endif
