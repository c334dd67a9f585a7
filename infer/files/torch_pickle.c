/* A tensor is pickled as the call of a function that makes it again: from a storage, where in it the tensor
 * begins, its shape and its strides (torch/_utils.py). Parameters and tensors of other Python types are such
 * calls around that one. */
#include "torch_pickle.h"

#include <string.h>

/* Names -------------------------------------------------------------------------------------------------- */

static const struct {
    const char *storage; /* in the module torch; NULL: none */
    const char *dtype;   /* likewise, and what is said in messages */
    ElementType type;
} TYPES[] = {
    {"FloatStorage", "float32", ELEMENT_F32},
    {"HalfStorage", "float16", ELEMENT_F16},
    {"BFloat16Storage", "bfloat16", ELEMENT_BF16},
    {"DoubleStorage", "float64", ELEMENT_F64},
    {"LongStorage", "int64", ELEMENT_I64},
    {"IntStorage", "int32", ELEMENT_I32},
    {"ShortStorage", "int16", ELEMENT_I16},
    {"CharStorage", "int8", ELEMENT_I8},
    {"ByteStorage", "uint8", ELEMENT_U8},
    {"BoolStorage", "bool", ELEMENT_BOOL},
    {NULL, "uint16", ELEMENT_U16},
    {NULL, "uint32", ELEMENT_U32},
    {NULL, "uint64", ELEMENT_U64},
    {NULL, "float8_e4m3fn", ELEMENT_F8_E4M3},
    {NULL, "float8_e5m2", ELEMENT_F8_E5M2},
    {NULL, "float8_e4m3fnuz", ELEMENT_OTHER},
    {NULL, "float8_e5m2fnuz", ELEMENT_OTHER},
    {NULL, "complex32", ELEMENT_OTHER},
    {NULL, "complex64", ELEMENT_OTHER},
    {NULL, "complex128", ELEMENT_OTHER},
};
#define TYPE_COUNT (sizeof TYPES / sizeof *TYPES)

/* name NULL: every name of the module and of those inside of it. */
static const struct {
    const char *module, *name;
    PickleUse use;
} NAMES[] = {
    {"collections", "OrderedDict", PICKLE_AS_DICT},
    {"torch.nn.modules.container", "ParameterDict", PICKLE_AS_DICT},
    {"torch._utils", "_rebuild_tensor", PICKLE_KEPT},
    {"torch._utils", "_rebuild_tensor_v2", PICKLE_KEPT},
    {"torch._utils", "_rebuild_tensor_v3", PICKLE_KEPT},
    {"torch._utils", "_rebuild_parameter", PICKLE_KEPT},
    {"torch._utils", "_rebuild_parameter_with_state", PICKLE_KEPT},
    {"torch._tensor", "_rebuild_from_type_v2", PICKLE_KEPT},
    {"torch", "Tensor", PICKLE_KEPT},
    {"torch.nn.parameter", "Parameter", PICKLE_KEPT},
    {"torch", "Size", PICKLE_KEPT},
    {"torch", "device", PICKLE_SKIPPED},
    {"torch.storage", "UntypedStorage", PICKLE_KEPT},
    {"torch.serialization", "_get_layout", PICKLE_SKIPPED},
    {"_codecs", "encode", PICKLE_SKIPPED},
    {"__builtin__", "set", PICKLE_SKIPPED},
    {"builtins", "set", PICKLE_SKIPPED},
    {"numpy", "dtype", PICKLE_SKIPPED},
    {"numpy", "ndarray", PICKLE_SKIPPED},
    {"numpy.core.multiarray", "scalar", PICKLE_SKIPPED},
    {"numpy.core.multiarray", "_reconstruct", PICKLE_SKIPPED},
    {"numpy._core.multiarray", "scalar", PICKLE_SKIPPED},
    {"numpy._core.multiarray", "_reconstruct", PICKLE_SKIPPED},
    {"pytorch_lightning.callbacks", NULL, PICKLE_SKIPPED},
    {"lightning.pytorch.callbacks", NULL, PICKLE_SKIPPED},
};

static bool same(const char *text, size_t length, const char *other)
{
    return length == strlen(other) && !memcmp(text, other, length);
}

static bool is_inside(const char *module, size_t length, const char *of)
{
    const size_t n = strlen(of);
    return length >= n && !memcmp(module, of, n) && (length == n || module[n] == '.');
}

static bool ends_with(const char *text, size_t length, const char *end)
{
    const size_t n = strlen(end);
    return length > n && !memcmp(text + length - n, end, n);
}

PickleUse torch_allowed(const char *module, size_t module_length, const char *name, size_t name_length)
{
    if (same(module, module_length, "torch")) {
        if (ends_with(name, name_length, "Storage"))
            return PICKLE_KEPT;
        for (size_t i = 0; i < TYPE_COUNT; i++)
            if (same(name, name_length, TYPES[i].dtype))
                return PICKLE_KEPT;
    }
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (NAMES[i].name
                ? same(module, module_length, NAMES[i].module) && same(name, name_length, NAMES[i].name)
                : is_inside(module, module_length, NAMES[i].module))
            return NAMES[i].use;
    return PICKLE_REFUSED;
}

/* Storages ----------------------------------------------------------------------------------------------- */

static Status strange(const char *what)
{
    return status_fail("its pickle has %s where none can be; fetch or write the file again", what);
}

/* The type that a global of the module torch names. */
static Status find_type(const PickleValue *global, TorchStorage *out)
{
    const char *newline =
        global->kind == PICKLE_GLOBAL ? memchr(global->text, '\n', (size_t)global->count) : NULL;
    if (!newline)
        return strange("a type that is none");
    out->type_name = newline + 1;
    out->type_length = (size_t)(global->text + global->count - out->type_name);
    out->type = ELEMENT_OTHER;
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if ((TYPES[i].storage && same(out->type_name, out->type_length, TYPES[i].storage)) ||
            same(out->type_name, out->type_length, TYPES[i].dtype))
            out->type = TYPES[i].type;
    out->element = element_size(out->type);
    return STATUS_OK;
}

/* ("storage", type, key, device, how many numbers, …) */
Status torch_storage(const PickleValue *ref, TorchStorage *out)
{
    const PickleValue *id = ref->kind == PICKLE_REF ? ref->items[0] : ref;
    if (ref->kind != PICKLE_REF || id->kind != PICKLE_LIST || id->count < 5 ||
        !pickle_is_text(id->items[0], "storage") || id->items[2]->kind != PICKLE_TEXT)
        return strange("a storage that is none");
    TRY(find_type(id->items[1], out));
    out->key = id->items[2]->text;
    out->key_length = (size_t)id->items[2]->count;
    return STATUS_OK;
}

/* Tensors ------------------------------------------------------------------------------------------------ */

/* v as the call of this function, with at least `least` arguments: those; else NULL. */
static PickleValue *const *call_of(const PickleValue *v, const char *name, int least, int *count)
{
    if (v->kind != PICKLE_CALL || !pickle_is_global(v->items[0], name) || v->items[1]->count < least)
        return NULL;
    *count = v->items[1]->count;
    return v->items[1]->items;
}

/* A list of numbers that are not negative; torch.Size is called with one. */
static int read_numbers(const PickleValue *v, int64_t *out)
{
    int count;
    PickleValue *const *args = call_of(v, "torch\nSize", 1, &count);
    if (args)
        v = args[0];
    if (v->kind != PICKLE_LIST || v->count > TORCH_MAX_DIMS)
        return -1;
    for (int i = 0; i < v->count; i++) {
        if (v->items[i]->kind != PICKLE_INT || v->items[i]->whole < 0)
            return -1;
        out[i] = v->items[i]->whole;
    }
    return v->count;
}

/* (storage, where it begins, shape, strides, …), in the third version with the type in the seventh place. */
static Status read_tensor(PickleValue *const *args, const PickleValue *type, TorchTensor *out)
{
    TRY(torch_storage(args[0], &out->storage));
    if (type)
        TRY(find_type(type, &out->storage));
    out->offset = args[1]->kind == PICKLE_INT ? args[1]->whole : -1;
    out->ndim = read_numbers(args[2], out->shape);
    if (out->offset < 0 || out->ndim < 0 || read_numbers(args[3], out->strides) != out->ndim)
        return strange("a tensor with a shape that is none, or more than 64 dimensions");
    return STATUS_OK;
}

/* Out of what is wrapped around it; NULL: no tensor. Each turn goes one deeper into what was built before. */
static const PickleValue *inner_tensor(const PickleValue *v, PickleValue *const **args,
                                       const PickleValue **type)
{
    int count = 0;
    *type = NULL;
    for (int depth = 0; depth < 8; depth++) {
        if ((*args = call_of(v, "torch._utils\n_rebuild_tensor_v2", 4, &count)) ||
            (*args = call_of(v, "torch._utils\n_rebuild_tensor", 4, &count)))
            return v;
        if ((*args = call_of(v, "torch._utils\n_rebuild_tensor_v3", 7, &count))) {
            *type = (*args)[6];
            return v;
        }
        PickleValue *const *outer = call_of(v, "torch._utils\n_rebuild_parameter", 1, &count);
        if (!outer)
            outer = call_of(v, "torch._utils\n_rebuild_parameter_with_state", 1, &count);
        if (!outer)
            return NULL;
        v = outer[0];
    }
    return NULL;
}

/* _rebuild_from_type_v2(function, type, arguments, state): the call of that function. */
static const PickleValue *without_type(const PickleValue *v, PickleValue *call, PickleValue **items)
{
    int count;
    PickleValue *const *args = call_of(v, "torch._tensor\n_rebuild_from_type_v2", 3, &count);
    if (!args || args[0]->kind != PICKLE_GLOBAL || args[2]->kind != PICKLE_LIST)
        return v;
    items[0] = args[0];
    items[1] = args[2];
    *call = (PickleValue){.kind = PICKLE_CALL, .count = 2, .items = items};
    return call;
}

bool torch_is_tensor(const PickleValue *v)
{
    PickleValue call, *items[2];
    PickleValue *const *args;
    const PickleValue *type;
    return inner_tensor(without_type(v, &call, items), &args, &type) != NULL;
}

Status torch_tensor(const PickleValue *v, TorchTensor *out)
{
    PickleValue call, *items[2];
    PickleValue *const *args;
    const PickleValue *type;
    if (!inner_tensor(without_type(v, &call, items), &args, &type))
        return strange("something that is no tensor");
    return read_tensor(args, type, out);
}
