#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "reserve.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RESERVE_BYTES ((size_t)1 << 20)
#define ROOM_BYTES ((size_t)32 << 10) /* a primitive's own objects are a few of 56 bytes; and to spare */

static bool own;
static _Atomic(void *) reserve;

/* std::new_handler of operator new. It may be called by several threads at once. */
static void out_of_memory(void)
{
    static const char message[] = "atelier: error: out of memory inside of oneDNN; what was saved is whole\n";
    void *block = atomic_exchange(&reserve, NULL);
    if (block) {
        free(block);
        return;
    }
    if (write(STDERR_FILENO, message, strlen(message)) < 0)
        _exit(STATUS_FAILED);
    _exit(STATUS_FAILED);
}

/* std::set_new_handler, looked up by name: nothing of ours is C++. */
void reserve_own_process(void)
{
    typedef void (*Handler)(void);
    Handler (*set)(Handler);
    *(void **)&set = dlsym(RTLD_DEFAULT, "_ZSt15set_new_handlerPFvvE");
    own = true;
    if (set)
        set(out_of_memory);
}

/* What is freed here stays on the heap, for the next who asks for no more. */
static Status check_room(void)
{
    void *volatile room = malloc(ROOM_BYTES); /* volatile: else the compiler leaves both calls out */
    free(room);
    return room ? STATUS_OK : status_memory("out of memory for oneDNN");
}

Status reserve_keep(void)
{
    if (own && !atomic_load_explicit(&reserve, memory_order_relaxed))
        atomic_store(&reserve, malloc(RESERVE_BYTES));
    TRY(reserve_check());
    return check_room();
}

Status reserve_check(void)
{
    return !own || atomic_load_explicit(&reserve, memory_order_relaxed)
               ? STATUS_OK
               : status_memory("out of memory for oneDNN");
}
