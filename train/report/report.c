#include "report.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/pictures/owned.h"
#include "html.h"
#include "page.h"

#include <string.h>

#define YAML_LIMIT ((size_t)16 << 20)

/* A configuration that somebody has changed meanwhile is no reason to end a run. */
static Status read_config(const char *run, Config **config, char **yaml, char **trouble)
{
    char *path = path_in(run, "config.yaml");
    size_t size;
    Status s = path ? file_read(path, YAML_LIMIT, yaml, &size) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = config_read(path, NULL, 0, config);
    mem_free(path);
    if (s == STATUS_OK || status_is_memory())
        return s;
    *trouble = mem_strdup(status_message());
    return *trouble ? STATUS_OK : STATUS_FAILED;
}

static Status make_page(Buffer *b, const Report *r)
{
    page_begin(b, path_base(r->run));
    facts_add(b, r);
    TRY(result_add(b, r));
    TRY(previews_add(b, r));
    plots_add(b, r);
    if (r->yaml) {
        buffer_add(b, "<h2>Configuration</h2>\n<details><summary>config.yaml</summary>\n<pre>");
        html_text(b, r->yaml);
        buffer_add(b, "</pre></details>\n");
    }
    page_end(b);
    return STATUS_OK;
}

static Status write_page(const char *run, const char *html)
{
    char *path = path_in(run, REPORT_FILE);
    Status s = path ? owned_take(run, REPORT_FILE) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_write_atomic(path, html, strlen(html));
    mem_free(path);
    return s;
}

Status report_write(const char *run)
{
    Config *config = NULL;
    Curves *curves = NULL;
    char *yaml = NULL, *trouble = NULL, *html = NULL;
    Buffer b = {0};
    Status s = read_config(run, &config, &yaml, &trouble);
    if (s == STATUS_OK)
        s = curves_read(run, &curves);
    if (s == STATUS_OK)
        s = make_page(
            &b, &(Report){.run = run, .config = config, .trouble = trouble, .yaml = yaml, .curves = curves});
    b.failed |= s != STATUS_OK;
    const KeptStatus kept = status_keep(s);
    s = buffer_take(&b, &html); /* frees what a failure left of it */
    if (kept.status != STATUS_OK)
        s = status_again(&kept);
    if (s == STATUS_OK)
        s = write_page(run, html);
    mem_free(html);
    mem_free(curves);
    mem_free(yaml);
    mem_free(trouble);
    config_free(config);
    return status_in(s, REPORT_FILE);
}
