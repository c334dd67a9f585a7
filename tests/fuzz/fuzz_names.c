/* Names of tensors: LoRA files' keys and single-file checkpoints' keys; and numbers as users write them. */
#include "fuzz.h"

#include "infer/adapters/keys.h"
#include "infer/files/keymap.h"
#include "kernels/base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_name(bool known, const char *name)
{
    if (known && strnlen(name, KEYMAP_MAX) >= KEYMAP_MAX)
        fuzz_fail("a name without an end");
}

static void numbers(const char *text)
{
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    if (text_to_int(text, &i) && i != strtoll(text, NULL, 10))
        fuzz_fail("text_to_int");
    if (text_to_uint(text, &u) && u != strtoull(text, NULL, 10))
        fuzz_fail("text_to_uint");
    if (text_to_float(text, &d) && (!isfinite(d) || d != strtod(text, NULL)))
        fuzz_fail("text_to_float");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text, out[3][KEYMAP_MAX];
    size_t length;
    int parts = 0;
    AdapterKey key;
    fuzz_part(&data, &size, &text, &length);
    adapter_key_parse(text, &key);
    check_name(key.type <= ADAPTER_KEY_MAGNITUDE, key.module);
    for (int k = 1; k <= 3; k++) {
        check_name(keymap_unet(text, k, out[0]), out[0]);
        check_name(keymap_vae(text, k + 1, out[0]), out[0]);
    }
    const bool known = keymap_openclip(text, out, &parts);
    for (int k = 0; k < parts && known; k++)
        check_name(true, out[k]);
    const char *const words[] = {"steps", "resolution", "batch"};
    text_nearest(text, words, 3);
    numbers(text);
    free(text);
    return 0;
}
