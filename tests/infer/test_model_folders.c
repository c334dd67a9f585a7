/* Diffusers folders in every form that their weights come in: PyTorch's files, shards, variants; what goes
 * first where several lie side by side; and weights in types that no engine computes with. */
#include "infer/convert/convert.h"
#include "infer/models/model.h"
#include "infer/models/parts.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "tests/infer/formats/formats.h"
#include "golden.h"

#include <unistd.h>

#define SD1 TEST_GOLDEN "/models/sd1"
#define MOST 1000
#define PATH 400

static char root[] = "/tmp/atelier-test-folders-XXXXXX", folder[64];

/* How the weights of a folder lie. */
typedef struct Layout {
    bool bin;
    const char *variant; /* "": none */
    int shards;
    bool old_names; /* of shards and index, as earlier versions of diffusers wrote them */
} Layout;

/* Making --------------------------------------------------------------------------------------------------
 */

static const char *stem_of(PartId id, const Layout *l)
{
    return l->bin && id == PART_TEXT ? "pytorch_model" : PARTS[id].kind->stem;
}

/* "model-00001-of-00002.fp16.bin"; a single shard is a whole file. */
static void file_name(PartId id, const Layout *l, int shard, char name[PATH])
{
    const char *dot = *l->variant ? "." : "", *ending = l->bin ? "bin" : "safetensors",
               *stem = stem_of(id, l);
    if (l->shards == 1)
        snprintf(name, PATH, "%s%s%s.%s", stem, dot, l->variant, ending);
    else if (l->old_names)
        snprintf(name, PATH, "%s-%05d-of-%05d%s%s.%s", stem, shard + 1, l->shards, dot, l->variant, ending);
    else
        snprintf(name, PATH, "%s%s%s-%05d-of-%05d.%s", stem, dot, l->variant, shard + 1, l->shards, ending);
}

static void index_name(PartId id, const Layout *l, char name[PATH])
{
    const char *dot = *l->variant ? "." : "", *ending = l->bin ? "bin" : "safetensors",
               *stem = stem_of(id, l);
    if (l->old_names)
        snprintf(name, PATH, "%s%s%s.%s.index.json", stem, dot, l->variant, ending);
    else
        snprintf(name, PATH, "%s.%s.index%s%s.json", stem, ending, dot, l->variant);
}

/* Every shards'th tensor goes into the same file. */
static void write_part(PartId id, const Layout *l, const TensorEntry *all, int count)
{
    char name[PATH], path[PATH * 2];
    TensorEntry *some = mem_calloc(MOST, sizeof *some);
    json_t *map = json_object();
    for (int shard = 0; shard < l->shards; shard++) {
        int n = 0;
        file_name(id, l, shard, name);
        for (int i = shard; i < count; i += l->shards) {
            some[n++] = all[i];
            json_object_set_new(map, all[i].name, json_string(name));
        }
        snprintf(path, sizeof path, "%s/%s/%s", folder, PARTS[id].folder, name);
        (l->bin ? format_test_ckpt : format_test_safetensors).write(path, some, n, NULL, 0);
    }
    json_t *index = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 1, "weight_map", map);
    index_name(id, l, name);
    snprintf(path, sizeof path, "%s/%s/%s", folder, PARTS[id].folder, name);
    if (l->shards > 1)
        assert_int_equal(json_dump_file(index, path, 0), 0);
    json_decref(index);
    mem_free(some);
}

/* The golden model's weights in this layout; zeros: of its names and shapes, but other numbers. */
static void add_weights(const Layout *l, bool zeros)
{
    for (int p = 0; p < PART_COUNT; p++) {
        if (!part_of_family((PartId)p, FAMILY_SD1))
            continue;
        TensorFile *f;
        char path[PATH];
        TensorEntry *all = mem_calloc(MOST, sizeof *all);
        snprintf(path, sizeof path, "%s/%s/%s.safetensors", SD1, PARTS[p].folder, PARTS[p].kind->stem);
        assert_ok(tensorfile_open(path, &f));
        const int n = tensorfile_count(f);
        size_t most = 0;
        assert_true(n <= MOST);
        for (int i = 0; i < n; i++) {
            all[i] = *tensorfile_entry(f, i);
            most = all[i].bytes > most ? all[i].bytes : most;
        }
        uint8_t *none = mem_calloc(most, 1);
        for (int i = 0; zeros && i < n; i++)
            all[i].data = none;
        write_part((PartId)p, l, all, n);
        mem_free(none);
        mem_free(all);
        tensorfile_close(f);
    }
}

static void link_to(const char *name)
{
    char from[PATH], to[PATH];
    snprintf(from, sizeof from, "%s/%s", SD1, name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    assert_int_equal(symlink(from, to), 0);
}

/* A folder without weights. */
static void begin(void)
{
    static const char *const small[] = {"scheduler",        "tokenizer",       "model_index.json",
                                        "unet/config.json", "vae/config.json", "text_encoder/config.json"};
    if (file_is_dir(folder))
        assert_ok(dir_remove(folder));
    for (int p = 0; p < PART_COUNT; p++) {
        if (!part_of_family((PartId)p, FAMILY_SD1))
            continue;
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s", folder, PARTS[p].folder);
        assert_ok(dir_make(path));
    }
    for (int i = 0; i < 6; i++)
        link_to(small[i]);
}

/* Comparing -----------------------------------------------------------------------------------------------
 */

static void same_tensor(const char *name, const Tensor *a, const Tensor *b)
{
    assert_int_equal(!a, !b);
    if (a && (tensor_bytes(a) != tensor_bytes(b) || memcmp(a->data, b->data, tensor_bytes(a)) != 0))
        fail_msg("%s: other numbers", name);
}

static void is_the_model(void)
{
    Model *m, *wanted;
    assert_ok(model_load(folder, MODEL_ALL, DTYPE_F32, &m));
    assert_ok(model_load(SD1, MODEL_ALL, DTYPE_F32, &wanted));
    for (int p = 0; p < PART_COUNT; p++) {
        if (!part_of_family((PartId)p, FAMILY_SD1))
            continue;
        const LayerSet *a = part_layers((PartId)p, m), *b = part_layers((PartId)p, wanted);
        assert_int_equal(a->count, b->count);
        for (int i = 0; i < a->count; i++) {
            same_tensor(b->items[i]->name, a->items[i]->weight, b->items[i]->weight);
            same_tensor(b->items[i]->name, a->items[i]->bias, b->items[i]->bias);
        }
    }
    model_free(m);
    model_free(wanted);
}

/* Layouts -------------------------------------------------------------------------------------------------
 */

static void every_layout_gives_the_same_weights(void **state)
{
    (void)state;
    static const char *const variants[] = {"", "fp16", "bf16", "fp32", "non_ema"};
    for (int v = 0; v < 5; v++)
        for (int i = 0; i < 8; i++) {
            const Layout l = {
                .variant = variants[v], .bin = i & 1, .shards = i & 2 ? 3 : 1, .old_names = i & 4};
            if (l.old_names && l.shards == 1)
                continue;
            begin();
            add_weights(&l, false);
            is_the_model();
        }
}

/* As diffusers has it: what is of no variant, then .safetensors, then what is in one piece. */
static void one_goes_first_where_several_are_there(void **state)
{
    (void)state;
    static const Layout PAIRS[][2] = {
        {{.variant = "", .shards = 1}, {.variant = "", .shards = 1, .bin = true}},
        {{.variant = "", .shards = 1}, {.variant = "fp16", .shards = 1}},
        {{.variant = "", .shards = 1, .bin = true}, {.variant = "fp16", .shards = 1}},
        {{.variant = "", .shards = 1}, {.variant = "", .shards = 2}},
        {{.variant = "", .shards = 2}, {.variant = "", .shards = 1, .bin = true}},
        {{.variant = "", .shards = 2, .bin = true}, {.variant = "fp16", .shards = 2}},
        {{.variant = "fp16", .shards = 1}, {.variant = "fp16", .shards = 1, .bin = true}},
        {{.variant = "fp16", .shards = 1}, {.variant = "non_ema", .shards = 1}},
    };
    for (size_t i = 0; i < sizeof PAIRS / sizeof *PAIRS; i++) {
        begin();
        add_weights(&PAIRS[i][0], false);
        add_weights(&PAIRS[i][1], true);
        is_the_model();
    }
}

static void refused(const char *what)
{
    Model *m;
    assert_int_not_equal(model_load(folder, MODEL_ALL, DTYPE_F32, &m), STATUS_OK);
    if (!strstr(status_message(), what))
        fail_msg("\"%s\" does not say \"%s\"", status_message(), what);
}

static void a_shard_that_is_missing_is_named(void **state)
{
    (void)state;
    for (int bin = 0; bin < 2; bin++) {
        const Layout l = {.variant = "", .bin = bin, .shards = 3};
        char name[PATH], path[PATH * 2];
        begin();
        add_weights(&l, false);
        file_name(PART_UNET, &l, 1, name);
        snprintf(path, sizeof path, "%s/unet/%s", folder, name);
        assert_int_equal(remove(path), 0);
        refused(name);
        index_name(PART_UNET, &l, name);
        refused(name);
    }
}

/* Types ---------------------------------------------------------------------------------------------------
 */

/* f64: the model's own numbers; 8 bits: any that are finite. */
static uint8_t *stored_as(const TensorEntry *e, ElementType type)
{
    const size_t size = element_size(type), from = element_size(e->type);
    const int64_t n = tensor_entry_count(e);
    uint8_t *out = mem_calloc((size_t)n, size);
    for (int64_t i = 0; i < n; i++) {
        const double value = element_number((const uint8_t *)e->data + (size_t)i * from, e->type);
        if (type == ELEMENT_F64)
            memcpy(out + i * 8, &value, 8);
        else
            out[i] = (uint8_t)(i * 7 % 120 | (i & 1) << 7);
    }
    return out;
}

static void rewrite_part(PartId id, ElementType type)
{
    TensorFile *f;
    char path[PATH];
    TensorEntry *all = mem_calloc(MOST, sizeof *all);
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", SD1, PARTS[id].folder, PARTS[id].kind->stem);
    assert_ok(tensorfile_open(path, &f));
    const int n = tensorfile_count(f);
    assert_true(n <= MOST);
    for (int i = 0; i < n; i++) {
        all[i] = *tensorfile_entry(f, i);
        if (!element_is_float(all[i].type))
            continue;
        all[i].data = stored_as(&all[i], type);
        all[i].type = type;
        all[i].bytes = (size_t)tensor_entry_count(&all[i]) * element_size(type);
    }
    write_part(id, &(Layout){.variant = "", .shards = 1}, all, n);
    for (int i = 0; i < n; i++)
        if (all[i].type == type)
            mem_free((void *)all[i].data);
    mem_free(all);
    tensorfile_close(f);
}

/* Text encoders are stored with this in front of their names or without. */
#define CLIP_PREFIX "text_model."

static const TensorEntry *find_either(const TensorFile *f, const char *name)
{
    char other[PATH * 2];
    const size_t n = strlen(CLIP_PREFIX);
    const bool has = !strncmp(name, CLIP_PREFIX, n);
    snprintf(other, sizeof other, "%s%s", has ? "" : CLIP_PREFIX, has ? name + n : name);
    const TensorEntry *e = tensorfile_find(f, name);
    return e ? e : tensorfile_find(f, other);
}

/* Of every layer what the file has, number by number. */
static void check_layer(const TensorFile *f, const Layer *l, ElementType type)
{
    char key[PATH];
    snprintf(key, sizeof key, "%s.weight", l->name);
    const TensorEntry *e = find_either(f, key);
    if (!e || e->type != type)
        fail_msg("%s is not stored as %s", key, element_name(type));
    assert_int_equal(tensor_count(l->weight), tensor_entry_count(e));
    for (int64_t i = 0; i < tensor_count(l->weight); i++)
        if (tensor_at(l->weight, i) !=
            element_number((const uint8_t *)e->data + (size_t)i * element_size(type), type))
            fail_msg("%s: number %lld is another", key, (long long)i);
}

static void check_parts(const char *where, ElementType type)
{
    Model *m;
    assert_ok(model_load(where, MODEL_ALL, DTYPE_F32, &m));
    for (int p = 0; p < PART_COUNT; p++) {
        if (!part_of_family((PartId)p, FAMILY_SD1))
            continue;
        TensorFile *f;
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s/%s.safetensors", folder, PARTS[p].folder, PARTS[p].kind->stem);
        assert_ok(tensorfile_open(path, &f));
        const LayerSet *set = part_layers((PartId)p, m);
        for (int i = 0; i < set->count; i++)
            check_layer(f, set->items[i], type);
        tensorfile_close(f);
    }
    model_free(m);
}

static void same_bytes(const char *a, const char *b)
{
    TensorFile *x, *y;
    assert_ok(tensorfile_open(a, &x));
    assert_ok(tensorfile_open(b, &y));
    for (int i = 0; i < tensorfile_count(x); i++) {
        const TensorEntry *e = tensorfile_entry(x, i), *other = find_either(y, e->name);
        if (!element_is_float(e->type)) /* position numbers */
            continue;
        if (!other || other->type != e->type || other->bytes != e->bytes ||
            memcmp(other->data, e->data, e->bytes) != 0)
            fail_msg("%s: %s is another", b, e->name);
    }
    tensorfile_close(x);
    tensorfile_close(y);
}

/* As a folder, as a single file, and back as a folder, with every bit. */
static void whole_models_of_odd_floats_are_read_and_converted(void **state)
{
    (void)state;
    static const ElementType TYPES[] = {ELEMENT_F64, ELEMENT_F8_E4M3, ELEMENT_F8_E5M2};
    char single[PATH], back[PATH];
    snprintf(single, sizeof single, "%s/single.safetensors", root);
    snprintf(back, sizeof back, "%s/back", root);
    for (int t = 0; t < 3; t++) {
        ConvertResult result;
        begin();
        for (int p = 0; p < PART_COUNT; p++)
            if (part_of_family((PartId)p, FAMILY_SD1))
                rewrite_part((PartId)p, TYPES[t]);
        check_parts(folder, TYPES[t]);
        assert_ok(model_convert(&(ConvertRequest){.from = folder, .to = single}, &result));
        check_parts(single, TYPES[t]);
        assert_ok(model_convert(&(ConvertRequest){.from = single, .to = back}, &result));
        for (int p = 0; p < PART_COUNT; p++) {
            if (!part_of_family((PartId)p, FAMILY_SD1))
                continue;
            char a[PATH], b[PATH * 2];
            snprintf(a, sizeof a, "%s/%s/%s.safetensors", folder, PARTS[p].folder, PARTS[p].kind->stem);
            snprintf(b, sizeof b, "%s/%s/%s.safetensors", back, PARTS[p].folder, PARTS[p].kind->stem);
            same_bytes(a, b);
        }
        remove(single);
        assert_ok(dir_remove(back));
    }
}

static void quiet(void *unused, LogLevel level, const char *text)
{
    (void)unused;
    (void)level;
    (void)text;
}

static int make(void **state)
{
    (void)state;
    log_to(quiet, NULL);
    if (!mkdtemp(root))
        return -1;
    snprintf(folder, sizeof folder, "%s/model", root);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    return dir_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_gives_the_same_weights),
        cmocka_unit_test(one_goes_first_where_several_are_there),
        cmocka_unit_test(a_shard_that_is_missing_is_named),
        cmocka_unit_test(whole_models_of_odd_floats_are_read_and_converted),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
