/* Configurations: YAML, the schema's checks, --set (the text after a line "----"). What is accepted is
 * written out and read again: the same must come of it. */
#include "fuzz.h"

#include "kernels/base/mem.h"
#include "train/config/config.h"

#include <stdlib.h>
#include <string.h>

static void write_and_read_again(const Config *c)
{
    char *first = NULL, *second = NULL;
    Config *again;
    if (config_write(c, &first) != STATUS_OK ||
        config_read(fuzz_file((const uint8_t *)first, strlen(first)), NULL, 0, &again) != STATUS_OK)
        fuzz_fail(status_message());
    if (config_write(again, &second) != STATUS_OK || strcmp(first, second) != 0)
        fuzz_fail("a configuration that was written is another one when read again");
    mem_free(first);
    mem_free(second);
    config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *yaml, *set = NULL;
    size_t length, set_length;
    fuzz_part(&data, &size, &yaml, &length);
    const bool has_set = fuzz_part(&data, &size, &set, &set_length);
    Config *c;
    const Status s =
        config_read(fuzz_file((const uint8_t *)yaml, length), (const char *const *)&set, has_set, &c);
    fuzz_check(s);
    if (s == STATUS_OK)
        write_and_read_again(c);
    config_free(s == STATUS_OK ? c : NULL);
    free(yaml);
    free(set);
    return 0;
}
