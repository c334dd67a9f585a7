/* docs/kubernetes.yaml. Breaks if it is no YAML, or if the number of pods, of processes, and the names by
 * which they find each other do not fit together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static YamlDoc *docs[2];
static YamlNode *service, *job;

/* The file has two documents, and the reader takes one. */
static int read_both(void **state)
{
    (void)state;
    char *text;
    size_t size;
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/kubernetes.yaml", 1 << 20, &text, &size), STATUS_OK);
    char *second = strstr(text, "\n---\n");
    assert_non_null(second);
    YamlNode **roots[2] = {&service, &job};
    const char *begin[2] = {text, second + 5};
    const size_t bytes[2] = {(size_t)(second + 1 - text), size - (size_t)(second + 5 - text)};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(yaml_doc_new(&docs[i]), STATUS_OK);
        if (yaml_parse(docs[i], "kubernetes.yaml", begin[i], bytes[i], roots[i]) != STATUS_OK)
            fail_msg("%s", status_message());
    }
    mem_free(text);
    return 0;
}

static int free_both(void **state)
{
    (void)state;
    yaml_doc_free(docs[0]);
    yaml_doc_free(docs[1]);
    return 0;
}

/* "spec.template.spec": keys of maps, a number into a list. */
static const YamlNode *at(const YamlNode *n, const char *path)
{
    char copy[128], *rest = copy;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *part; (part = strsep(&rest, "."));) {
        assert_non_null(n);
        n = n->kind == YAML_IS_LIST ? n->items[atoi(part)] : yaml_get(n, part);
    }
    if (!n)
        fail_msg("%s is missing", path);
    return n;
}

static const YamlNode *environment(const char *name)
{
    const YamlNode *list = at(job, "spec.template.spec.containers.0.env");
    for (int i = 0; i < list->count; i++)
        if (strcmp(at(list->items[i], "name")->text, name) == 0)
            return list->items[i];
    fail_msg("%s is not set", name);
    return NULL;
}

static void as_many_pods_as_processes(void **state)
{
    (void)state;
    const char *count = at(environment("WORLD_SIZE"), "value")->text;
    assert_string_equal(at(job, "spec.completions")->text, count);
    assert_string_equal(at(job, "spec.parallelism")->text, count);
    assert_string_equal(at(job, "spec.completionMode")->text, "Indexed");
    assert_string_equal(at(environment("RANK"), "valueFrom.fieldRef.fieldPath")->text,
                        "metadata.annotations['batch.kubernetes.io/job-completion-index']");
}

/* Pods are called JOB-INDEX, and found as JOB-INDEX.SERVICE. */
static void process_0_is_found_by_its_name(void **state)
{
    (void)state;
    char name[128];
    const char *of_job = at(job, "metadata.name")->text, *of_service = at(service, "metadata.name")->text;
    snprintf(name, sizeof name, "%s-0.%s", of_job, of_service);
    assert_string_equal(at(environment("MASTER_ADDR"), "value")->text, name);
    assert_string_equal(at(job, "spec.template.spec.subdomain")->text, of_service);
    assert_string_equal(yaml_get(at(service, "spec.selector"), "batch.kubernetes.io/job-name")->text, of_job);
    assert_string_equal(at(environment("MASTER_PORT"), "value")->text,
                        at(service, "spec.ports.0.port")->text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_pods_as_processes),
        cmocka_unit_test(process_0_is_found_by_its_name),
    };
    return cmocka_run_group_tests(tests, read_both, free_both);
}
