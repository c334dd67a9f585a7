/* Fibres. On x86-64 a switch is a few instructions by hand, as a kernel of a thousand threads takes millions
 * of them; elsewhere it is swapcontext(). Stacks have a guard page below, and begin at different offsets in
 * their pages, so that the tops of a thousand stacks do not fall into the same lines of the cache. */
#include "fibre.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES ((size_t)512 << 10)
#else
#define STACK_BYTES ((size_t)128 << 10)
#endif
#define PAGE ((size_t)4096)
#define FIBRES_MOST 1100 /* threads of a block, and a few */

struct Fibre {
    void *top; /* where its registers lie while it does not run */
    void (*body)(void);
    char *stack; /* lowest address that may be used; NULL: the thread's own stack */
#ifndef __x86_64__
    ucontext_t context;
#endif
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t bytes;
    void *fake;
#endif
};

static Fibre first;
static Fibre *fibres[FIBRES_MOST];
static int fibre_count;
static Fibre *arriving, *leaving; /* of the switch under way */

Fibre *fibre_main(void)
{
    return &first;
}

/* Tells AddressSanitizer of the stacks that are left and entered. */
static void leave(Fibre *from, Fibre *to)
{
    arriving = to;
    leaving = from;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
}

static void arrive(Fibre *f)
{
    (void)f;
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(f->fake, &bottom, &bytes);
    if (!leaving->stack) { /* the main one's is learnt when it is left */
        leaving->bottom = bottom;
        leaving->bytes = bytes;
    }
#endif
}

static void begin(void)
{
    Fibre *f = arriving;
    arrive(f);
    f->body();
    abort();
}

#ifdef __x86_64__
void stand_in_switch(void **save, void *load);
__asm__(".text\n"
        ".globl stand_in_switch\n"
        ".hidden stand_in_switch\n"
        ".type stand_in_switch, @function\n"
        ".p2align 4\n"
        "stand_in_switch:\n"
        "    endbr64\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size stand_in_switch, .-stand_in_switch\n");

static void prepare(Fibre *f, char *top)
{
    void **sp = (void **)(void *)top;
    *--sp = NULL; /* keeps the stack 16-byte aligned at the entry of begin(), and ends a debugger's walk */
    *--sp = (void *)begin; /* where the first switch returns to */
    for (int i = 0; i < 6; i++)
        *--sp = NULL;
    f->top = sp;
}

void fibre_switch(Fibre *from, Fibre *to)
{
    leave(from, to);
    stand_in_switch(&from->top, to->top);
    arrive(from);
}
#else
static void prepare(Fibre *f, char *top)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = (size_t)(top - f->stack);
    f->context.uc_link = NULL;
    makecontext(&f->context, begin, 0);
}

void fibre_switch(Fibre *from, Fibre *to)
{
    leave(from, to);
    swapcontext(&from->context, &to->context);
    arrive(from);
}
#endif

Fibre *fibre_new(void (*body)(void))
{
    Fibre *f = calloc(1, sizeof *f);
    char *low = mmap(NULL, PAGE + STACK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!f || low == MAP_FAILED || mprotect(low, PAGE, PROT_NONE) != 0 || fibre_count == FIBRES_MOST) {
        fprintf(stderr, "stand-in: no memory for the stack of a thread\n");
        abort();
    }
    f->body = body;
    f->stack = low + PAGE;
    char *top = low + PAGE + STACK_BYTES - (size_t)(fibre_count % 32) * 192;
#if defined(__SANITIZE_ADDRESS__)
    f->bottom = f->stack;
    f->bytes = STACK_BYTES;
#endif
    prepare(f, top);
    fibres[fibre_count++] = f;
    return f;
}

const char *fibre_stack(const Fibre *f, size_t *bytes)
{
    *bytes = STACK_BYTES;
    return f->stack;
}

int fibre_overflow(const void *p)
{
    for (int i = 0; i < fibre_count; i++)
        if ((const char *)p >= fibres[i]->stack - PAGE && (const char *)p < fibres[i]->stack)
            return 1;
    return 0;
}
