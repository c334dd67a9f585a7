/* The file (cache.h, docs/cache-file.md). All numbers are little-endian.
 *
 *     header   64 bytes: "ATELIERC", u32 version, u32 slots of a block
 *     block    64 bytes: "INDEXBLK", u64 where the next block begins (0: none); then its slots, 128 bytes
 * each values   f32, each record's from a multiple of 64 on
 *
 * The first block follows the header; others and values are appended as they come. Whoever adds holds a lock
 * on the file: values first, then the slot, which carries a check sum of its own, so that a reader sees it
 * whole or not at all. A slot that is no whole one is free. */
#include "cache.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "ATELIERC"
#define BLOCK_MAGIC "INDEXBLK"
#define VERSION 1
#define HEADER 64
#define BLOCK_HEADER 64
#define SLOT 128
#define SLOTS 512
#define SLOT_CHECKED 112 /* bytes that the slot's own check sum is of */
#define ALIGNMENT 64
#define BLOCK_BYTES (BLOCK_HEADER + SLOTS * SLOT)

#define LARGEST_BYTES ((uint64_t)0x7fffffff) /* of a record: latents of 16384×16384 pixels take 134 MB */
#define LARGEST_FILE (((uint64_t)1 << 48) - 1)

/* Where a record lies, and what of its key tells it from others in memory. A million take 32 MB. */
typedef struct __attribute__((packed)) Record {
    uint8_t key[16];                 /* of 32 */
    uint64_t slot : 48, offset : 48; /* slot 0: it was damaged, and is of no bytes */
    uint64_t bytes : 31, verified : 1;
} Record;
_Static_assert(sizeof(Record) == 32, "Record");

typedef struct Store {
    char *path;
    int fd; /* −1: there is no file (yet) */
    bool writable;
    Record *records;  /* (count), the newest of each key */
    uint32_t *places; /* (room), by the key's first bytes (open addressing): a record's number + 1; 0: free */
    size_t count, capacity, room;
    uint64_t block; /* the last one that has been looked at */
    int next;       /* its first slot that held nothing */
} Store;

struct Cache {
    Store stores[2];
    int count;
};

/* Bytes ------------------------------------------------------------------------------------------------- */

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)from[i] << 8 * i;
    return v;
}

static uint64_t get_u64(const uint8_t *from)
{
    return get_u32(from) | (uint64_t)get_u32(from + 4) << 32;
}

/* False: the file ends before, or cannot be read. */
static bool read_at(const Store *s, uint64_t at, void *to, size_t n)
{
    for (char *p = to; n;) {
        const ssize_t got = pread(s->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

static Status failed(const Store *s, const char *what)
{
    return status_fail("%s: %s: %s", s->path, what, strerror(errno));
}

static Status write_at(const Store *s, uint64_t at, const void *from, size_t n)
{
    for (const char *p = from; n;) {
        const ssize_t put = pwrite(s->fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return failed(s, "cannot be written");
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return STATUS_OK;
}

static Status file_end(const Store *s, uint64_t *end)
{
    struct stat st;
    *end = 0;
    if (fstat(s->fd, &st) != 0)
        return failed(s, "cannot be looked at");
    *end = (uint64_t)st.st_size;
    return STATUS_OK;
}

/* Records in memory ------------------------------------------------------------------------------------- */

/* The place of the key's record (its first 16 bytes), or the free one where it would be. */
static uint32_t *place_of(const Store *s, const uint8_t *key)
{
    for (uint64_t at = get_u64(key);; at++) {
        uint32_t *place = &s->places[at % s->room];
        if (!*place || memcmp(s->records[*place - 1].key, key, sizeof s->records->key) == 0)
            return place;
    }
}

/* For one more. */
static Status make_room(Store *s)
{
    if (s->count == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 512;
        if (capacity > UINT32_MAX / 2)
            return status_fail("%s: holds too many entries", s->path);
        Record *records = mem_realloc(s->records, capacity * sizeof *records);
        if (!records)
            return STATUS_FAILED;
        s->records = records;
        s->capacity = capacity;
    }
    if (2 * (s->count + 1) <= s->room)
        return STATUS_OK;
    const size_t room = s->room ? 2 * s->room : 1024;
    uint32_t *places = mem_calloc(room, sizeof *places);
    if (!places)
        return STATUS_FAILED;
    mem_free(s->places);
    s->places = places;
    s->room = room;
    for (size_t i = 0; i < s->count; i++)
        *place_of(s, s->records[i].key) = (uint32_t)i + 1;
    return STATUS_OK;
}

/* What this program would not have written is left where it is. */
static bool is_ours(const uint8_t *slot, uint64_t at)
{
    return at <= LARGEST_FILE && get_u64(slot + 64) <= LARGEST_FILE && get_u64(slot + 72) <= LARGEST_BYTES;
}

static Status take_record(Store *s, const uint8_t *slot, uint64_t at)
{
    if (!is_ours(slot, at))
        return STATUS_OK;
    TRY(make_room(s));
    uint32_t *place = place_of(s, slot);
    if (!*place)
        *place = (uint32_t)++s->count;
    Record *r = &s->records[*place - 1];
    *r = (Record){.slot = at & LARGEST_FILE,
                  .offset = get_u64(slot + 64) & LARGEST_FILE,
                  .bytes = get_u64(slot + 72) & LARGEST_BYTES};
    memcpy(r->key, slot, sizeof r->key);
    return STATUS_OK;
}

static Record *find(const Store *s, const CacheKey key, size_t floats)
{
    const uint32_t place = s->room ? *place_of(s, key) : 0;
    Record *r = place ? &s->records[place - 1] : NULL;
    return r && r->bytes == floats * sizeof(float) ? r : NULL;
}

/* The index --------------------------------------------------------------------------------------------- */

static void slot_check(const uint8_t *slot, uint8_t out[SHA256_SIZE])
{
    sha256(slot, SLOT_CHECKED, out);
}

static bool slot_is_whole(const uint8_t *slot)
{
    uint8_t check[SHA256_SIZE];
    if (get_u64(slot + 64) == 0) /* as in one that nothing was ever written to */
        return false;
    slot_check(slot, check);
    return memcmp(check, slot + SLOT_CHECKED, SLOT - SLOT_CHECKED) == 0;
}

/* Slots of the block at hand that have been filled since; *full: all are. */
static Status look_at_block(Store *s, uint8_t *slots, bool *full)
{
    const uint64_t first = s->block + BLOCK_HEADER;
    *full = false;
    if (!read_at(s, first, slots, SLOTS * SLOT))
        return STATUS_OK;
    for (; s->next < SLOTS; s->next++) {
        const uint8_t *slot = slots + s->next * SLOT;
        if (!slot_is_whole(slot))
            return STATUS_OK;
        TRY(take_record(s, slot, first + (uint64_t)s->next * SLOT));
    }
    *full = true;
    return STATUS_OK;
}

static Status look_on(Store *s)
{
    uint8_t head[BLOCK_HEADER], *slots = mem_alloc(SLOTS * SLOT);
    bool full = true;
    Status status = slots ? STATUS_OK : STATUS_FAILED;
    while (status == STATUS_OK && full) {
        status = look_at_block(s, slots, &full);
        if (status != STATUS_OK || !full || !read_at(s, s->block, head, sizeof head))
            break;
        const uint64_t next = get_u64(head + 8);
        if (next <= s->block || !read_at(s, next, head, sizeof head) || memcmp(head, BLOCK_MAGIC, 8) != 0)
            break;
        s->block = next;
        s->next = 0;
    }
    mem_free(slots);
    return status;
}

static Status check_header(const Store *s)
{
    uint8_t header[HEADER];
    uint64_t end;
    TRY(file_end(s, &end));
    if (end == 0) /* somebody is about to write it */
        return STATUS_OK;
    if (!read_at(s, 0, header, sizeof header) || memcmp(header, MAGIC, 8) != 0)
        return status_refuse("%s: is there, and is no cache of Atelier's; it is left alone: rename it",
                             s->path);
    if (get_u32(header + 8) != VERSION || get_u32(header + 12) != SLOTS)
        return status_refuse("%s: is a cache of another version of Atelier; remove it, and it is made anew",
                             s->path);
    return STATUS_OK;
}

/* Opening ----------------------------------------------------------------------------------------------- */

/* make: the file is made where it is missing. */
static Status store_open(Store *s, bool make)
{
    s->fd = open(s->path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0666);
    s->writable = s->fd >= 0;
    if (s->fd < 0 && errno != ENOENT && !make)
        s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        return make ? failed(s, "cannot be made") : STATUS_OK;
    s->block = HEADER;
    s->next = 0;
    TRY(check_header(s));
    return look_on(s);
}

/* A file that is not there can be made if its folder can be written. */
static bool can_write(const Store *s)
{
    char *folder = path_parent(s->path);
    const bool may = s->fd >= 0 ? s->writable : folder && access(*folder ? folder : ".", W_OK) == 0;
    mem_free(folder);
    return may;
}

static Status add_store(Cache *c, const char *path)
{
    Store *s = &c->stores[c->count++];
    s->fd = -1;
    s->path = mem_strdup(path);
    return s->path ? store_open(s, false) : STATUS_FAILED;
}

Status cache_open(const char *path, const char *otherwise, Cache **out)
{
    *out = NULL;
    Cache *c = mem_calloc(1, sizeof *c);
    if (!c)
        return STATUS_FAILED;
    Status status = add_store(c, path);
    if (status == STATUS_OK && otherwise && !can_write(&c->stores[0]))
        status = add_store(c, otherwise);
    if (status != STATUS_OK) {
        cache_close(c);
        return status;
    }
    *out = c;
    return STATUS_OK;
}

void cache_close(Cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        Store *s = &c->stores[i];
        if (s->fd >= 0)
            close(s->fd);
        mem_free(s->path);
        mem_free(s->records);
        mem_free(s->places);
    }
    mem_free(c);
}

const char *cache_path(const Cache *c)
{
    const Store *s = &c->stores[c->count - 1];
    return can_write(s) ? s->path : NULL;
}

Status cache_refresh(Cache *c)
{
    for (int i = 0; i < c->count; i++) {
        Store *s = &c->stores[i];
        TRY(s->fd < 0 ? store_open(s, false) : look_on(s));
    }
    return STATUS_OK;
}

/* Reading ----------------------------------------------------------------------------------------------- */

bool cache_has(const Cache *c, const CacheKey key, size_t floats)
{
    for (int i = 0; i < c->count; i++)
        if (find(&c->stores[i], key, floats))
            return true;
    return false;
}

static void values_check(const CacheKey key, const float *values, size_t floats, uint8_t out[SHA256_SIZE])
{
    Sha256 h;
    sha256_init(&h);
    sha256_update(&h, key, SHA256_SIZE);
    sha256_update(&h, values, floats * sizeof *values);
    sha256_final(&h, out);
}

/* Whether what was read is what was added under the whole key. */
static bool is_right(const Store *s, const Record *r, const CacheKey key, const float *values, size_t floats)
{
    uint8_t slot[SLOT], check[SHA256_SIZE];
    if (r->verified)
        return true;
    values_check(key, values, floats, check);
    return read_at(s, r->slot, slot, sizeof slot) && memcmp(slot, key, SHA256_SIZE) == 0 &&
           memcmp(slot + 32, check, SHA256_SIZE) == 0;
}

Status cache_read(Cache *c, const CacheKey key, float *out, size_t floats, bool *found)
{
    *found = false;
    for (int i = 0; i < c->count && !*found; i++) {
        Store *s = &c->stores[i];
        Record *r = find(s, key, floats);
        if (!r)
            continue;
        if (!read_at(s, r->offset, out, floats * sizeof *out) || !is_right(s, r, key, out, floats)) {
            log_info("%s: a damaged entry; it is made anew", s->path);
            r->slot = 0; /* the next that is added takes its place */
            r->bytes = 0;
            continue;
        }
        r->verified = *found = true;
        for (size_t k = 0; k < floats; k++)
            if (!isfinite(out[k]))
                return status_fail("%s: holds %s in an entry that is whole; remove the file, then it is made "
                                   "anew (a run: --resume auto)",
                                   s->path, isnan(out[k]) ? "nan" : "inf");
    }
    return STATUS_OK;
}

/* Adding ------------------------------------------------------------------------------------------------ */

static uint64_t aligned(uint64_t at)
{
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static Status write_block(const Store *s, uint64_t at)
{
    uint8_t *block = mem_calloc(1, BLOCK_BYTES);
    if (!block)
        return STATUS_FAILED;
    memcpy(block, BLOCK_MAGIC, 8);
    const Status status = write_at(s, at, block, BLOCK_BYTES);
    mem_free(block);
    return status;
}

static Status write_header(const Store *s)
{
    uint8_t header[HEADER] = {0};
    memcpy(header, MAGIC, 8);
    put_u32(header + 8, VERSION);
    put_u32(header + 12, SLOTS);
    TRY(write_block(s, HEADER));
    return write_at(s, 0, header, sizeof header); /* last: an empty file has none */
}

/* Another block at the end, once it is whole. */
static Status chain_block(Store *s)
{
    uint64_t end;
    uint8_t next[8];
    TRY(file_end(s, &end));
    end = aligned(end);
    TRY(write_block(s, end));
    put_u64(next, end);
    TRY(write_at(s, s->block + 8, next, sizeof next));
    s->block = end;
    s->next = 0;
    return STATUS_OK;
}

static Status append(Store *s, const CacheKey key, const CacheLabel *label, const float *values,
                     size_t floats)
{
    uint8_t slot[SLOT] = {0}, check[SHA256_SIZE];
    uint64_t end;
    if (s->next == SLOTS)
        TRY(chain_block(s));
    TRY(file_end(s, &end));
    end = aligned(end);
    if (end > LARGEST_FILE)
        return status_fail("%s: is too large for more", s->path);
    memcpy(slot, key, SHA256_SIZE);
    values_check(key, values, floats, slot + 32);
    put_u64(slot + 64, end);
    put_u64(slot + 72, floats * sizeof *values);
    put_u32(slot + 80, (uint32_t)label->kind);
    for (int i = 0; i < CACHE_DIMS; i++)
        put_u32(slot + 84 + 4 * i, label->dims[i]);
    slot_check(slot, check);
    memcpy(slot + SLOT_CHECKED, check, SLOT - SLOT_CHECKED);
    TRY(write_at(s, end, values, floats * sizeof *values));
    const uint64_t at = s->block + BLOCK_HEADER + (uint64_t)s->next * SLOT;
    TRY(write_at(s, at, slot, sizeof slot));
    s->next++;
    TRY(take_record(s, slot, at));
    s->records[*place_of(s, key) - 1].verified = true;
    return STATUS_OK;
}

/* With the lock held, after what others have added since has been looked at. */
static Status add_locked(Store *s, const CacheKey key, const CacheLabel *label, const float *values,
                         size_t floats)
{
    uint64_t end, before;
    TRY(file_end(s, &end));
    if (end < HEADER + BLOCK_BYTES)
        TRY(write_header(s));
    TRY(look_on(s));
    if (find(s, key, floats))
        return STATUS_OK;
    TRY(file_end(s, &before));
    const uint64_t block = s->block;
    const int next = s->next;
    const Status status = append(s, key, label, values, floats);
    if (status != STATUS_OK) { /* a full disk: what was written of it goes, a new block too */
        const KeptStatus kept = status_keep(status);
        s->block = block;
        s->next = next;
        if (ftruncate(s->fd, (off_t)before) != 0)
            log_warn("%s: cannot be cut back: %s", s->path, strerror(errno));
        return status_again(&kept);
    }
    return STATUS_OK;
}

Status cache_add(Cache *c, const CacheKey key, const CacheLabel *label, const float *values, size_t floats)
{
    Store *s = &c->stores[c->count - 1];
    if (floats > LARGEST_BYTES / sizeof *values)
        return status_fail("%s: a record of %.1f GB is too large: 2 GB is the most", s->path,
                           (double)floats * sizeof *values / 1e9);
    if (s->fd < 0)
        TRY(store_open(s, true));
    if (!s->writable)
        return status_fail("%s: cannot be written", s->path);
    while (flock(s->fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return failed(s, "cannot be locked");
    const Status status = add_locked(s, key, label, values, floats);
    flock(s->fd, LOCK_UN);
    return status;
}

/* Listing ----------------------------------------------------------------------------------------------- */

#define LISTED 256 /* different labels */

typedef struct Listing {
    CacheLabel labels[LISTED];
    int64_t counts[LISTED];
    int count;
} Listing;

static void list_record(Listing *l, const Store *s, const Record *r)
{
    uint8_t slot[SLOT];
    if (!read_at(s, r->slot, slot, sizeof slot))
        return;
    CacheLabel label = {.kind = (CacheKind)get_u32(slot + 80)};
    for (int i = 0; i < CACHE_DIMS; i++)
        label.dims[i] = get_u32(slot + 84 + 4 * i);
    int k = 0;
    while (k < l->count && memcmp(&l->labels[k], &label, sizeof label) != 0)
        k++;
    if (k == LISTED)
        return;
    l->labels[k] = label;
    l->counts[k]++;
    l->count += k == l->count;
}

Status cache_list(const Cache *c, CacheListed each, void *arg)
{
    Listing *l = mem_calloc(1, sizeof *l);
    if (!l)
        return STATUS_FAILED;
    for (int i = 0; i < c->count; i++)
        for (size_t k = 0; k < c->stores[i].count; k++)
            if (c->stores[i].records[k].slot)
                list_record(l, &c->stores[i], &c->stores[i].records[k]);
    for (int k = 0; k < l->count; k++)
        each(&l->labels[k], l->counts[k], arg);
    mem_free(l);
    return STATUS_OK;
}
