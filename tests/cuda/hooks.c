/* What gcc calls before each access in code that was compiled with -fsanitize=thread. Its own library for
 * that is not linked: these are in its place. */
#include "block.h"
#include "watch.h"

#define PLACE __builtin_return_address(0)

void __tsan_init(void);
void __tsan_init(void)
{
    watch_on = true;
}

#define ACCESS(name, bytes, kind, aligned)                                                                   \
    void __tsan_##name(void *p);                                                                             \
    void __tsan_##name(void *p)                                                                              \
    {                                                                                                        \
        if (!block_own(p))                                                                                   \
            watch_access(p, bytes, kind, aligned, PLACE);                                                    \
    }
#define ACCESSES(bytes)                                                                                      \
    ACCESS(read##bytes, bytes, WATCH_READ, true)                                                             \
    ACCESS(write##bytes, bytes, WATCH_WRITE, true)                                                           \
    ACCESS(volatile_read##bytes, bytes, WATCH_READ, true)                                                    \
    ACCESS(volatile_write##bytes, bytes, WATCH_WRITE, true)                                                  \
    ACCESS(unaligned_read##bytes, bytes, WATCH_READ, false)                                                  \
    ACCESS(unaligned_write##bytes, bytes, WATCH_WRITE, false)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

#define RANGE(name, kind)                                                                                    \
    void __tsan_##name(void *p, unsigned long bytes);                                                        \
    void __tsan_##name(void *p, unsigned long bytes)                                                         \
    {                                                                                                        \
        if (!block_own(p))                                                                                   \
            watch_access(p, bytes, kind, false, PLACE);                                                      \
    }
RANGE(read_range, WATCH_READ)
RANGE(write_range, WATCH_WRITE)

void __tsan_func_entry(void *caller);
void __tsan_func_entry(void *caller)
{
    (void)caller;
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}

/* Atomics, which are to be done here. One thread runs at a time: plain arithmetic does. */
#define UPDATE(bits, name, result)                                                                           \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t x, int order);    \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t x, int order)     \
    {                                                                                                        \
        (void)order;                                                                                         \
        watch_access((const void *)p, bits / 8, WATCH_ATOMIC, true, PLACE);                                  \
        const uint##bits##_t old = *p;                                                                       \
        *p = (uint##bits##_t)(result);                                                                       \
        return old;                                                                                          \
    }
#define COMPARE(bits, name)                                                                                  \
    int __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t *expected, uint##bits##_t x, \
                                     int order, int otherwise);                                              \
    int __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t *expected, uint##bits##_t x, \
                                     int order, int otherwise)                                               \
    {                                                                                                        \
        (void)order, (void)otherwise;                                                                        \
        watch_access((const void *)p, bits / 8, WATCH_ATOMIC, true, PLACE);                                  \
        const uint##bits##_t old = *p;                                                                       \
        const int equal = old == *expected;                                                                  \
        if (equal)                                                                                           \
            *p = x;                                                                                          \
        else                                                                                                 \
            *expected = old;                                                                                 \
        return equal;                                                                                        \
    }
#define ATOMICS(bits)                                                                                        \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order);                  \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order)                   \
    {                                                                                                        \
        (void)order;                                                                                         \
        watch_access((const void *)p, bits / 8, WATCH_ATOMIC, true, PLACE);                                  \
        return *p;                                                                                           \
    }                                                                                                        \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t x, int order);               \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t x, int order)                \
    {                                                                                                        \
        (void)order;                                                                                         \
        watch_access((const void *)p, bits / 8, WATCH_ATOMIC, true, PLACE);                                  \
        *p = x;                                                                                              \
    }                                                                                                        \
    UPDATE(bits, exchange, x)                                                                                \
    UPDATE(bits, fetch_add, old + x)                                                                         \
    UPDATE(bits, fetch_sub, old - x)                                                                         \
    UPDATE(bits, fetch_and, old &x)                                                                          \
    UPDATE(bits, fetch_or, old | x)                                                                          \
    UPDATE(bits, fetch_xor, old ^ x)                                                                         \
    COMPARE(bits, compare_exchange_strong)                                                                   \
    COMPARE(bits, compare_exchange_weak)
ATOMICS(32)
ATOMICS(64)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order)
{
    (void)order;
}
