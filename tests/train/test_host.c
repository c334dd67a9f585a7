/* A host program: it links libatelier, overrides nothing, and has commands run that read datasets, draw,
 * train and fail. Breaks if anything that belongs to the whole process is then not as it was: a library's
 * allocator, exit and signal handlers, standard error, the environment, the locale, OpenMP's and HDF5's
 * settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/atelier.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <hdf5.h>
#include <jansson.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static char work[64];

/* Every exit handler that a library registers comes by here. */
static int ours, hdf5s;

int __cxa_atexit(void (*handler)(void *), void *arg, void *dso)
{
    static int (*real)(void (*)(void *), void *, void *);
    Dl_info where;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "__cxa_atexit");
    if (dladdr(*(void **)&handler, &where) && where.dli_fname) {
        ours += strstr(where.dli_fname, "libatelier") != NULL;
        hdf5s += strstr(where.dli_fname, "libhdf5") != NULL;
    }
    return real(handler, arg, dso);
}

/* A function of a library that this program does not link. */
static void *look_up(const char *name)
{
    void *f = dlsym(RTLD_DEFAULT, name);
    if (!f)
        fail_msg("there is no %s", name);
    return f;
}

/* Does what was freed make glibc keep larger blocks in the heap, as it does by itself? mallopt ends that. */
static bool large_blocks_stay(void)
{
    enum { LARGE = 12 << 20 };
    void *volatile block = malloc(LARGE);
    free(block);
    const size_t before = mallinfo2().hblks;
    block = malloc(LARGE);
    const bool stays = mallinfo2().hblks == before;
    free(block);
    return stays;
}

typedef struct Process {
    struct sigaction signals[65];
    stack_t signal_stack;
    json_malloc_t json_malloc;
    json_free_t json_free;
    void (*new_handler)(void);
    int threads, dynamic;
    bool large_blocks_stay;
    mode_t mask;
    char locale[128], folder[128], environment[16384];
} Process;

static void look(Process *p)
{
    memset(p, 0, sizeof *p);
    for (int i = 1; i <= 64; i++)
        sigaction(i, NULL, &p->signals[i]);
    sigaltstack(NULL, &p->signal_stack);
    json_get_alloc_funcs(&p->json_malloc, &p->json_free);
    p->new_handler = ((void (*(*)(void))(void))look_up("_ZSt15get_new_handlerv"))();
    p->threads = ((int (*)(void))look_up("omp_get_max_threads"))();
    p->dynamic = ((int (*)(void))look_up("omp_get_dynamic"))();
    p->large_blocks_stay = large_blocks_stay();
    p->mask = umask(0);
    umask(p->mask);
    snprintf(p->locale, sizeof p->locale, "%s", setlocale(LC_ALL, NULL));
    assert_non_null(getcwd(p->folder, sizeof p->folder));
    for (char **e = environ; *e; e++)
        snprintf(p->environment + strlen(p->environment), sizeof p->environment - strlen(p->environment),
                 "%s\n", *e);
}

static void assert_same(const Process *a, const Process *b)
{
    for (int i = 1; i <= 64; i++)
        if (a->signals[i].sa_handler != b->signals[i].sa_handler)
            fail_msg("signal %d has another handler", i);
    assert_ptr_equal(a->signal_stack.ss_sp, b->signal_stack.ss_sp);
    assert_ptr_equal(a->json_malloc, b->json_malloc);
    assert_ptr_equal(a->json_free, b->json_free);
    assert_ptr_equal(a->new_handler, b->new_handler);
    assert_int_equal(a->threads, b->threads);
    assert_int_equal(a->dynamic, b->dynamic);
    assert_int_equal(a->large_blocks_stay, b->large_blocks_stay);
    assert_int_equal(a->mask, b->mask);
    assert_string_equal(a->locale, b->locale);
    assert_string_equal(a->folder, b->folder);
    assert_string_equal(a->environment, b->environment);
}

/* A command with both streams in files of work, as "out" and "err". */
static int run(char *line)
{
    char *words[32], path[96];
    int count = 0, kept[2];
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", work, i ? "err" : "out");
        const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        kept[i] = dup(1 + i);
        dup2(fd, 1 + i);
        close(fd);
    }
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        words[count++] = word;
    words[count] = NULL;
    const int status = atl_main(count, words);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(kept[i], 1 + i);
        close(kept[i]);
    }
    return status;
}

static long size_of(const char *name)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", work, name);
    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

#define RUN(wanted, ...)                                                                                     \
    do {                                                                                                     \
        char line[1024];                                                                                     \
        snprintf(line, sizeof line, __VA_ARGS__);                                                            \
        assert_int_equal(run(line), wanted);                                                                 \
        assert_int_equal(size_of("err"), 0);                                                                 \
    } while (0)

#define SD1 TEST_GOLDEN "/models/sd1"

/* The same through handles (train/atelier.h). */
static void use_handles(void)
{
    AtlModel *model;
    AtlPicture picture;
    AtlRun *again;
    char config[96], dir[96];
    const char *const sets[] = {dir};
    snprintf(config, sizeof config, "%s/run.yaml", work);
    snprintf(dir, sizeof dir, "output.dir=%s/handles", work);
    assert_int_equal(atl_model_open(SD1, NULL, &model), ATL_OK);
    assert_int_equal(
        atl_sample(model, &(AtlSample){.size = sizeof(AtlSample), .prompt = "cat", .steps = 1}, &picture),
        ATL_OK);
    atl_picture_free(&picture);
    atl_model_close(model);
    assert_int_equal(
        atl_run_open(
            &(AtlRunOptions){.size = sizeof(AtlRunOptions), .config = config, .set = sets, .set_count = 1},
            &again),
        ATL_OK);
    assert_int_equal(atl_run_go(again), ATL_OK);
    atl_run_close(again);
}

static void work_leaves_the_process_as_it_was(void **state)
{
    (void)state;
    Process before, after;
    ours = hdf5s = 0;
    look(&before);
    RUN(0, "atelier data build %s/pictures --out %s/set.h5 --caption thing", work, work);
    RUN(0, "atelier train %s/run.yaml", work);
    RUN(0, "atelier sample --model " SD1 " --prompt cat --steps 1 --threads 1 --out %s/cat.png", work);
    assert_true(size_of("out") > 0);
    assert_true(size_of("cat.png") > 0);
    assert_true(size_of("lora/lora.safetensors") > 0);
    RUN(2, "atelier sample --model %s/nothing --prompt cat", work);
    RUN(2, "atelier lora");
    use_handles();
    look(&after);
    assert_same(&before, &after);
    assert_int_equal(ours, 0);
    assert_true(hdf5s > 0); /* nor was HDF5, which the library began, told to go without */
    H5E_auto2_t print = NULL;
    void *arg;
    assert_true(H5Eget_auto2(H5E_DEFAULT, &print, &arg) >= 0);
    assert_non_null(print); /* HDF5 prints its errors, as it does by itself */
}

typedef struct Heard {
    int errors, steps;
    char last[512];
} Heard;

static void hear(void *arg, int level, const char *text)
{
    Heard *h = arg;
    h->errors += level == 0;
    if (level == 0)
        snprintf(h->last, sizeof h->last, "%s", text);
}

static void follow(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                   const char *note)
{
    Heard *h = arg;
    if (strcmp(label, "train") != 0)
        return;
    h->steps++;
    assert_string_equal(unit, "step");
    assert_int_equal(done, h->steps);
    assert_int_equal(total, 2);
    assert_non_null(strstr(note, "loss"));
}

static void messages_and_progress_come_to_the_hosts_functions(void **state)
{
    (void)state;
    Heard heard = {0};
    atl_set_log(hear, &heard);
    atl_set_progress(follow, &heard);
    RUN(0, "atelier train %s/run.yaml --set output.dir=%s/again", work, work);
    assert_int_equal(heard.errors, 0);
    assert_int_equal(heard.steps, 2);
    RUN(2, "atelier train %s/none.yaml", work);
    assert_int_equal(heard.errors, 1);
    assert_non_null(strstr(heard.last, "none.yaml"));
    assert_null(strstr(heard.last, "atelier: error"));
    atl_set_log(NULL, NULL);
    atl_set_progress(NULL, NULL);
    RUN(2, "atelier train %s/none.yaml", work);
    assert_int_equal(heard.errors, 1);
}

static int make_work(void **state)
{
    (void)state;
    char text[512];
    strcpy(work, "/tmp/atelier-host-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    snprintf(text, sizeof text,
             "mkdir %s/pictures && cp data/examples/banana.jpg data/examples/bell.jpg %s/pictures", work,
             work);
    if (system(text) != 0)
        return -1;
    snprintf(text, sizeof text, "%s/run.yaml", work);
    FILE *f = fopen(text, "w");
    if (!f)
        return -1;
    fprintf(f,
            "model: {base: " SD1 ", dtype: f32}\n"
            "dataset: {path: %s/set.h5}\n"
            "train: {steps: 2, batch: 1, resolution: 32, threads: 1}\n"
            "optimizer: {lr: 1.0e-3}\n"
            "preview: {every: 2, prompts: [cat], steps: 1}\n"
            "output: {dir: %s/lora, save_every: 1}\n",
            work, work);
    return fclose(f);
}

static int remove_work(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", work);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_leaves_the_process_as_it_was),
        cmocka_unit_test(messages_and_progress_come_to_the_hosts_functions),
    };
    return cmocka_run_group_tests(tests, make_work, remove_work);
}
