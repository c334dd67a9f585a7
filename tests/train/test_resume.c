/* Whole runs, stopped and gone on with. Breaks if a run that was asked to stop would end in other bytes than
 * one that was not, or if batch and accumulate saw different numbers. */
#include "runs.h"

#include "data/pictures/picture.h"
#include "infer/files/safetensors.h"
#include "train/pictures/sources.h"
#include "train/run/checkpoint_folder.h"
#include "train/run/resume.h"

/* The flag goes up at the n-th allocation after this: a place that no clock moves. */
static volatile sig_atomic_t stop;
static long left;
static int count_down(size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    if (--left == 0)
        stop = 1;
    return 0;
}

static void a_run_stopped_anywhere_ends_in_the_same_bytes(void **state)
{
    (void)state;
#define MORE                                                                                                 \
    "train.ema=0.9", "validation.share=0.2", "validation.every=2", "method.text_encoder=true",               \
        "preview.prompts=[a cat]", "preview.every=3", "preview.steps=2", (char *)NULL
    train(config_for("whole", SD1, MORE), NULL);
    int stops = 0;
    for (long after = 200; after < 1000000; after += after / 3) {
        Config *config = config_for("stopped", SD1, MORE);
        stop = 0;
        left = after;
        mem_set_hook(count_down, NULL);
        const Status s = trainer_run(config, &(TrainOptions){.resume = "auto", .stop = &stop});
        mem_set_hook(NULL, NULL);
        config_free(config);
        if (s == STATUS_OK)
            break;
        if (s != STATUS_INTERRUPTED)
            fail_msg("%s", status_message());
        stops++;
    }
    assert_true(stops >= 3);
    static const char *const files[] = {"lora.safetensors",
                                        "samples/step-000000.png",
                                        "samples/step-000006.png",
                                        "samples/before-after.png",
                                        "checkpoints/step-000006/weights.safetensors",
                                        "checkpoints/step-000006/optimizer.safetensors",
                                        "checkpoints/step-000006/ema.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_same_file("whole", "stopped", files[i]);
    for (int i = 0; i < 7; i++) {
        assert_true(number("whole", i, "step") == number("stopped", i, "step"));
        assert_true(number("whole", i, "loss") == number("stopped", i, "loss"));
        const double a = number("whole", i, "validation_loss"), b = number("stopped", i, "validation_loss");
        assert_true(a == b || (isnan(a) && isnan(b)));
    }
    assert_null(log_line("stopped", 7));
#undef MORE
}

static void a_finished_run_is_left_alone_and_a_new_one_refused(void **state)
{
    (void)state;
    bool finished, begun;
    train(config_for("done", SD1, "train.steps=1", (char *)NULL), NULL);
    Config *config = config_for("done", SD1, "train.steps=1", (char *)NULL);
    assert_int_equal(resume_check(config, NULL, CHECKPOINT_ANY, false, &finished, &begun), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "--resume auto"));
    assert_non_null(strstr(status_message(), "output.dir"));
    assert_int_equal(resume_check(config, "auto", CHECKPOINT_ANY, false, &finished, &begun), STATUS_OK);
    assert_true(finished);
    assert_int_equal(resume_folder(config, "/nowhere", &(int64_t){0}), STATUS_REFUSED);
    config_free(config);
}

static void auto_starts_at_step_one_where_nothing_is_saved(void **state)
{
    (void)state;
    train(config_for("fresh", SD1, "train.steps=2", (char *)NULL), "auto");
    assert_true(number("fresh", 0, "step") == 1);
    json_t *last = log_line("fresh", 2);
    assert_true(json_is_true(json_object_get(last, "done")));
    assert_true(json_integer_value(json_object_get(last, "peak_bytes")) > 0);
    json_decref(last);
}

static void batch_and_accumulate_see_the_same_numbers(void **state)
{
    (void)state;
    train(config_for("batch", SD1, "train.batch=4", "train.accumulate=1", (char *)NULL), NULL);
    train(config_for("accumulate", SD1, "train.batch=1", "train.accumulate=4", (char *)NULL), NULL);
    train(config_for("both", SD1, "train.batch=2", "train.accumulate=2", (char *)NULL), NULL);
    for (int i = 0; i < 6; i++) {
        assert_float_equal(number("batch", i, "loss"), number("accumulate", i, "loss"), 1e-5);
        assert_float_equal(number("batch", i, "grad_norm"), number("both", i, "grad_norm"), 1e-5);
    }
}

static void checkpointing_never_changes_a_byte(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++) {
        char *kind = full ? "method.kind=full" : "method.rank=4", name[2][24];
        snprintf(name[0], sizeof name[0], "kept%d", full);
        snprintf(name[1], sizeof name[1], "again%d", full);
        train(config_for(name[0], SD1, kind, "train.steps=2", "train.checkpointing=off", (char *)NULL), NULL);
        train(config_for(name[1], SD1, kind, "train.steps=2", "train.checkpointing=on", (char *)NULL), NULL);
        assert_same_file(name[0], name[1], "checkpoints/step-000002/weights.safetensors");
        assert_same_file(name[0], name[1], "checkpoints/step-000002/optimizer.safetensors");
    }
    assert_same_file("kept1", "again1", "model/unet/diffusion_pytorch_model.safetensors");
}

static void latents_are_the_same_cached_and_encoded_each_time(void **state)
{
    (void)state;
    train(config_for("cached", SD1, "train.steps=2", "validation.share=0.3", (char *)NULL), NULL);
    train(config_for("encoded", SD1, "train.steps=2", "validation.share=0.3", "train.cache_latents=false",
                     "train.cache_text=false", (char *)NULL),
          NULL);
    assert_same_file("cached", "encoded", "checkpoints/step-000002/weights.safetensors");
    assert_true(number("cached", 1, "validation_loss") == number("encoded", 1, "validation_loss"));
}

static void a_checkpoint_of_another_shape_is_refused(void **state)
{
    (void)state;
    train(config_for("shape", SD1, "train.steps=2", (char *)NULL), NULL);
    char *log = mem_printf("%s/shape/log.jsonl", work);
    assert_int_equal(remove(log), 0); /* so that it is not finished */
    mem_free(log);
    Config *config = config_for("shape", SD1, "method.rank=3", (char *)NULL);
    assert_int_equal(trainer_run(config, &(TrainOptions){.resume = "auto", .allow_changes = true}),
                     STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "is missing or of another shape"));
    config_free(config);
}

static Status go_on(Config *config, bool allow_changes)
{
    const Status s = trainer_run(config, &(TrainOptions){.resume = "auto", .allow_changes = allow_changes});
    config_free(config);
    return s;
}

static void settings_that_change_the_result_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const changes[][2] = {{"optimizer.lr=2.0e-3", "optimizer.lr is 0.002 and was 0.001"},
                                             {"train.seed=7", "train.seed is 7 and was 42"},
                                             {"train.steps=9", "train.steps is 9 and was 2"},
                                             {"loss.snr_gamma=1", "loss.snr_gamma"},
                                             {"dataset.repeats=3", "dataset.repeats"},
                                             {"dataset.caption.dropout=0.5", "dataset.caption.dropout"},
                                             {"model.dtype=bf16", "model.dtype is bf16 and was f32"}};
    static const char *const free_ones[] = {"train.loader_threads=3", "train.checkpointing=on",
                                            "output.keep=5", "output.formats=[peft]",
                                            "train.cache_latents=false"};
    train(config_for("settings", SD1, "train.steps=2", (char *)NULL), NULL);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        unfinish("settings");
        Config *config = config_for("settings", SD1, "train.steps=2", changes[i][0], (char *)NULL);
        assert_int_equal(go_on(config, false), STATUS_REFUSED);
        if (!strstr(status_message(), changes[i][1]) || !strstr(status_message(), "--allow-changes"))
            fail_msg("%s: %s", changes[i][0], status_message());
        config = config_for("settings", SD1, "train.steps=2", (char *)NULL); /* and nothing is lost */
        assert_int_equal(go_on(config, false), STATUS_OK);
    }
    for (size_t i = 0; i < sizeof free_ones / sizeof *free_ones; i++) {
        unfinish("settings");
        Config *config = config_for("settings", SD1, "train.steps=2", free_ones[i], (char *)NULL);
        if (go_on(config, false) != STATUS_OK)
            fail_msg("%s: %s", free_ones[i], status_message());
    }
    unfinish("settings");
    assert_int_equal(
        go_on(config_for("settings", SD1, "train.steps=2", "optimizer.lr=2.0e-3", (char *)NULL), true),
        STATUS_OK);
}

/* A constant learning rate does not know how long the run is. */
static void a_run_may_be_made_longer_where_that_changes_nothing(void **state)
{
    (void)state;
#define LEVEL "optimizer.schedule=constant", (char *)NULL
    train(config_for("long", SD1, "train.steps=4", LEVEL), NULL);
    train(config_for("longer", SD1, "train.steps=2", LEVEL), NULL);
    unfinish("longer");
    assert_int_equal(go_on(config_for("longer", SD1, "train.steps=1", LEVEL), false), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "has done 2 steps already"));
    assert_int_equal(go_on(config_for("longer", SD1, "train.steps=4", LEVEL), false), STATUS_OK);
    assert_same_file("long", "longer", "checkpoints/step-000004/weights.safetensors");
    assert_same_file("long", "longer", "checkpoints/step-000004/optimizer.safetensors");
#undef LEVEL
}

/* A state in 8 bits comes back as it was, of large tensors and small ones. */
static void a_run_with_states_in_8_bits_goes_on_as_one(void **state)
{
    (void)state;
#define CODES                                                                                                \
    "method.kind=full", "optimizer.kind=adamw8bit", "optimizer.schedule=constant", "train.batch=1",          \
        (char *)NULL
    train(config_for("codes", SD1, "train.steps=3", CODES), NULL);
    train(config_for("codes-on", SD1, "train.steps=2", CODES), NULL);
    unfinish("codes-on");
    assert_int_equal(go_on(config_for("codes-on", SD1, "train.steps=3", CODES), false), STATUS_OK);
    assert_same_file("codes", "codes-on", "checkpoints/step-000003/weights.safetensors");
    assert_same_file("codes", "codes-on", "checkpoints/step-000003/optimizer.safetensors");
#undef CODES
}

/* What runs of a whole model kept before had LoRAs' default format in it, which nobody had asked for. */
static void a_run_of_before_with_a_lora_s_format_goes_on(void **state)
{
    (void)state;
    char *path = mem_printf("%s/formats/config.yaml", work), *yaml, *at, *old;
    size_t size;
    Config *own;
    train(config_for("formats", SD1, "train.steps=2", "method.kind=full", (char *)NULL), NULL);
    assert_int_equal(file_read(path, 1 << 20, &yaml, &size), STATUS_OK);
    assert_null(strstr(yaml, "formats:"));
    assert_non_null(at = strstr(yaml, "output:\n"));
    at += strlen("output:\n");
    old = mem_printf("%.*s  formats: [kohya]\n%s", (int)(at - yaml), yaml, at);
    assert_int_equal(file_write_atomic(path, old, strlen(old)), STATUS_OK);
    unfinish("formats");
    assert_int_equal(config_read(path, NULL, 0, &own), STATUS_OK);
    assert_false(own->output.kohya);
    config_free(own);
    assert_int_equal(
        go_on(config_for("formats", SD1, "train.steps=2", "method.kind=full", (char *)NULL), false),
        STATUS_OK);
    mem_free(old);
    mem_free(yaml);
    mem_free(path);
}

/* Writes a checkpoint's file again without its alphas, as they were before they had any. */
static void leave_out_alphas(const char *name, const char *file, int *left_out)
{
    char *path = mem_printf("%s/%s/checkpoints/step-000002/%s", work, name, file);
    TensorFile *f;
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    SafeItem items[1024];
    int count = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        if (strstr(e->name, ".alpha")) {
            ++*left_out;
            continue;
        }
        Tensor *t = tensor_new(DTYPE_F32, e->ndim, e->shape);
        assert_int_equal(tensor_entry_read(e, DTYPE_F32, t->data), STATUS_OK);
        items[count++] = (SafeItem){.name = e->name, .tensor = t, .dtype = DTYPE_F32, .ndim = -1};
    }
    assert_int_equal(safetensors_write(path, items, count, NULL, 0), STATUS_OK);
    while (count > 0)
        tensor_free((Tensor *)items[--count].tensor);
    tensorfile_close(f);
    mem_free(path);
}

static void checkpoints_without_alpha_are_gone_on_with(void **state)
{
    (void)state;
#define OLD "train.ema=0.9", "method.alpha=3", "optimizer.schedule=constant", (char *)NULL
    int left_out = 0;
    train(config_for("new", SD1, "train.steps=4", OLD), NULL);
    train(config_for("old", SD1, "train.steps=2", OLD), NULL);
    leave_out_alphas("old", "weights.safetensors", &left_out);
    leave_out_alphas("old", "ema.safetensors", &left_out);
    assert_int_equal(left_out, 2 * 48); /* modules */
    leave_out_sums("old", 2);           /* nor had they any sums */
    unfinish("old");
    assert_int_equal(go_on(config_for("old", SD1, "train.steps=4", OLD), false), STATUS_OK);
    assert_same_file("new", "old", "checkpoints/step-000004/weights.safetensors");
    assert_same_file("new", "old", "checkpoints/step-000004/ema.safetensors");
    assert_same_file("new", "old", "lora.safetensors");
#undef OLD
}

static void copy(const char *from, const char *to)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", to, from, to);
    assert_int_equal(system(command), 0);
}

static void a_byte_more(const char *folder, const char *file)
{
    char *path = mem_printf("%s/%s", folder, file), *bytes;
    size_t size;
    assert_int_equal(file_read(path, 1 << 24, &bytes, &size), STATUS_OK);
    bytes[size - 2]++;
    assert_int_equal(file_write_atomic(path, bytes, size), STATUS_OK);
    mem_free(bytes);
    mem_free(path);
}

static void another_model_or_other_pictures_are_refused(void **state)
{
    (void)state;
    char *model = mem_printf("%s/model", work), *moved = mem_printf("%s/moved", work),
         *set = mem_printf("%s/set.h5", work), *pictures = mem_printf("%s/pictures", work),
         *path = mem_printf("dataset.path=%s", set);
    copy(SD1, model);
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = pictures, .out = set}, NULL), STATUS_OK);
    train(config_for("origins", model, path, "train.steps=2", (char *)NULL), NULL);
    copy(model, moved); /* the same model, in another place */
    unfinish("origins");
    assert_int_equal(go_on(config_for("origins", moved, path, "train.steps=2", (char *)NULL), false),
                     STATUS_OK);
    a_byte_more(moved, "unet/diffusion_pytorch_model.safetensors");
    unfinish("origins");
    assert_int_equal(go_on(config_for("origins", moved, path, "train.steps=2", (char *)NULL), false),
                     STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "moved is not the one that the run began with"));
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = pictures, .out = set}, NULL), STATUS_OK);
    assert_int_equal(go_on(config_for("origins", model, path, "train.steps=2", (char *)NULL), false),
                     STATUS_OK);
    char *caption = mem_printf("%s/bell.txt", pictures);
    char *old;
    size_t size;
    assert_int_equal(file_read(caption, 1 << 10, &old, &size), STATUS_OK);
    assert_int_equal(file_write_atomic(caption, "a bell", 6), STATUS_OK);
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = pictures, .out = set}, NULL), STATUS_OK);
    unfinish("origins");
    assert_int_equal(go_on(config_for("origins", model, path, "train.steps=2", (char *)NULL), false),
                     STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "the pictures or captions of"));
    assert_int_equal(file_write_atomic(caption, old, size), STATUS_OK);
    char *const all[] = {model, moved, set, pictures, path, caption, old};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free(all[i]);
}

static void a_trace_tells_all_of_a_step(void **state)
{
    (void)state;
    char *folder = mem_printf("%s/trace", work);
    Config *config = config_for("traced", SD1, "train.steps=3", "train.accumulate=2", (char *)NULL);
    assert_int_equal(trainer_run(config, &(TrainOptions){.trace = folder, .trace_steps = 2}), STATUS_OK);
    static const char *const names[] = {"latents",    "noise",  "timesteps", "conditioning",
                                        "prediction", "target", "loss"};
    for (int step = 0; step <= 2; step++) {
        TensorFile *f;
        char *path = mem_printf("%s/step-%06d.safetensors", folder, step);
        if (tensorfile_open(path, &f) != STATUS_OK)
            fail_msg("%s", status_message());
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const TensorEntry *e = tensorfile_find(f, names[i]);
            assert_true((e != NULL) == (step > 0));
            if (e && strcmp(names[i], "loss") != 0)
                assert_int_equal(e->shape[0], 4);
        }
        const char *key =
            "weight.lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight";
        assert_non_null(tensorfile_find(f, key));
        tensorfile_close(f);
        mem_free(path);
    }
    char *third = mem_printf("%s/step-000003.safetensors", folder);
    assert_false(file_exists(third));
    mem_free(third);
    config_free(config);
    mem_free(folder);
    /* and changes nothing */
    train(config_for("untraced", SD1, "train.steps=3", "train.accumulate=2", (char *)NULL), NULL);
    assert_same_file("traced", "untraced", "lora.safetensors");
}

/* A folder and a file of the same name are two datasets, with caches of their own. */
static void datasets_of_one_name_are_kept_apart(void **state)
{
    (void)state;
    train(config_for("first", SD1, "train.steps=1", (char *)NULL), NULL);
    char *set =
        mem_printf("dataset=[{path: %s/pictures}, {path: %s/first/pictures.h5, repeats: 2}]", work, work);
    Config *config = config_for("two", SD1, set, "train.steps=4", (char *)NULL);
    char *labels[] = {source_label(config, 0), source_label(config, 1)};
    assert_string_equal(labels[0], "pictures");
    assert_string_equal(labels[1], "pictures-2");
    train(config, NULL);
    TensorFile *f;
    char *path = mem_printf("%s/two/lora.safetensors", work);
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    json_t *folders = json_loads(tensorfile_metadata(f, "ss_dataset_dirs"), 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(folders, "pictures"), "n_repeats")),
                     1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(folders, "pictures-2"), "n_repeats")),
                     2);
    json_decref(folders);
    tensorfile_close(f);
    for (int i = 0; i < 2; i++)
        mem_free(labels[i]);
    mem_free(path);
    mem_free(set);
}

static void copy_picture(const char *folder, const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "mkdir -p '%s/%s' && cp data/examples/%s.jpg '%s/%s'", work, folder,
             name, work, folder);
    assert_int_equal(system(command), 0);
}

/* kohya's folders: each with a number of repeats of its own, in every epoch, and told so in the LoRA. */
static void every_kohya_folder_has_its_own_repeats(void **state)
{
    (void)state;
    copy_picture("kohya/3_a bell", "bell");
    copy_picture("kohya/1_fruit", "banana");
    copy_picture("kohya/1_fruit", "carrot");
    Config *config =
        config_for("kohya-run", SD1, "dataset.path=kohya", "train.steps=5", "train.batch=1", (char *)NULL);
    Sources *sources;
    train(config, NULL);
    config = config_for("kohya-again", SD1, "dataset.path=kohya", (char *)NULL);
    assert_int_equal(sources_open(config, &(SizeModel){8, 32}, NULL, false, NULL, &sources), STATUS_OK);
    assert_int_equal(sources->epoch_samples, 5);
    int times[3] = {0};
    for (int i = 0; i < sources->items[0].trained_count; i++)
        times[sources->items[0].trained[i]]++;
    assert_true(times[0] == 1 && times[1] == 1 && times[2] == 3);
    sources_close(sources);
    config_free(config);
    config = config_for("kohya-again", SD1, "dataset.path=kohya", "dataset.repeats=2", (char *)NULL);
    assert_int_equal(sources_open(config, &(SizeModel){8, 32}, NULL, false, NULL, &sources), STATUS_OK);
    assert_int_equal(sources->epoch_samples, 6); /* the configuration's number counts for all */
    assert_int_equal(sources->items[0].trained_count, 3);
    sources_close(sources);
    config_free(config);
    TensorFile *f;
    char *path = mem_printf("%s/kohya-run/lora.safetensors", work);
    assert_int_equal(tensorfile_open(path, &f), STATUS_OK);
    assert_string_equal(tensorfile_metadata(f, "ss_dataset_dirs"),
                        "{\"1_fruit\": {\"img_count\": 2, \"n_repeats\": 1}, "
                        "\"3_a bell\": {\"img_count\": 1, \"n_repeats\": 3}}");
    tensorfile_close(f);
    mem_free(path);
}

static void write_in(const char *file, const char *text)
{
    char *path = mem_printf("%s/%s", work, file);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    mem_free(path);
}

/* The dataset file has the folders' repeats and captions, and is without what cannot be read. */
static void a_dataset_file_trains_as_its_folder_does(void **state)
{
    (void)state;
    char *folder = mem_printf("%s/set/toys", work), *file = mem_printf("%s/built/toys.h5", work);
    copy_picture("set/toys/3_a bell", "bell");
    copy_picture("set/toys/2_fruit", "banana");
    copy_picture("set/toys/2_fruit", "carrot");
    write_in("set/toys/2_fruit/broken.jpg", "no picture");
    write_in("set/toys/2_fruit/broken.txt", "nothing");
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = folder, .out = file, .skip_bad = true}, NULL),
                     STATUS_OK);
#define SAME "train.steps=6", "train.batch=2", "validation.share=0.3", "validation.every=3", (char *)NULL
    train(config_for("of-folder", SD1, "dataset.path=set/toys", "dataset.skip_bad=true", SAME), NULL);
    train(config_for("of-file", SD1, "dataset.path=built/toys.h5", SAME), NULL);
#undef SAME
    assert_same_file("of-folder", "of-file", "lora.safetensors"); /* metadata too: repeats, folders, tags */
    assert_same_file("of-folder", "of-file", "checkpoints/step-000006/optimizer.safetensors");
    assert_true(number("of-folder", 5, "validation_loss") == number("of-file", 5, "validation_loss"));
    mem_free(folder);
    mem_free(file);
}

static void write_wide_picture(const char *folder)
{
    char *parent = mem_printf("%s/%s", work, folder), *path = mem_printf("%s/wide.png", parent),
         *name = mem_printf("%s/wide.txt", folder);
    Picture p;
    assert_int_equal(picture_new((Size){96, 48}, &p), STATUS_OK);
    for (int i = 0; i < 3 * 96 * 48; i++)
        p.rgb[i] = (uint8_t)(i % 96);
    assert_int_equal(dir_make(parent), STATUS_OK);
    assert_int_equal(picture_write_png(path, &p, NULL, 0), STATUS_OK);
    write_in(name, "wide");
    picture_free(&p);
    mem_free(parent);
    mem_free(path);
    mem_free(name);
}

/* The run's own configuration as a version without buckets wrote it. */
static void forget_buckets(const char *name)
{
    char *path = mem_printf("%s/%s/config.yaml", work, name), *text;
    size_t size;
    assert_int_equal(file_read(path, 1 << 20, &text, &size), STATUS_OK);
    char *line = strstr(text, "    buckets: ");
    assert_non_null(line);
    char *next = strchr(line, '\n') + 1;
    memmove(line, next, strlen(next) + 1);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    mem_free(text);
    mem_free(path);
}

/* Its pictures were squares, and stay so; also the second time, when its configuration says so. */
static void a_run_from_before_buckets_goes_on_without_them(void **state)
{
    (void)state;
#define WIDE SD1, "dataset.path=wide", "optimizer.schedule=constant", "train.batch=1"
    write_wide_picture("wide");
    train(config_for("squares", WIDE, "dataset.buckets=off", "train.steps=6", (char *)NULL), NULL);
    train(config_for("shapes", WIDE, "train.steps=6", (char *)NULL), NULL);
    train(config_for("before", WIDE, "dataset.buckets=off", "train.steps=2", (char *)NULL), NULL);
    forget_buckets("before");
    assert_int_equal(
        go_on(config_for("before", WIDE, "dataset.buckets=on", "train.steps=4", (char *)NULL), false),
        STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "dataset.buckets is true and was false"));
    assert_int_equal(go_on(config_for("before", WIDE, "train.steps=4", (char *)NULL), false), STATUS_OK);
    assert_int_equal(go_on(config_for("before", WIDE, "train.steps=6", (char *)NULL), false), STATUS_OK);
    assert_same_file("squares", "before", "checkpoints/step-000006/weights.safetensors");
    assert_true(number("squares", 5, "loss") != number("shapes", 5, "loss"));
#undef WIDE
}

static void a_checkpoint_is_named_by_digits_alone(void **state)
{
    (void)state;
    static const char *const others[] = {
        "step-",    "step- 5",  "step-+5",  "step--5", "step-5 ",
        "step-5x",  " step-5",  "Step-5",   "step",    "",
        "step-\t5", "step-0x5", "step-5.0", ".step-5", "step-000005.part-12"};
    assert_int_equal(checkpoint_step("step-000005"), 5);
    assert_int_equal(checkpoint_step("step-0"), 0);
    assert_int_equal(checkpoint_step("step-1234567"), 1234567);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (checkpoint_step(others[i]) != -1)
            fail_msg("`%s` is taken for a checkpoint", others[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_stopped_anywhere_ends_in_the_same_bytes),
        cmocka_unit_test(a_finished_run_is_left_alone_and_a_new_one_refused),
        cmocka_unit_test(auto_starts_at_step_one_where_nothing_is_saved),
        cmocka_unit_test(batch_and_accumulate_see_the_same_numbers),
        cmocka_unit_test(checkpointing_never_changes_a_byte),
        cmocka_unit_test(latents_are_the_same_cached_and_encoded_each_time),
        cmocka_unit_test(a_checkpoint_of_another_shape_is_refused),
        cmocka_unit_test(settings_that_change_the_result_are_refused_by_name),
        cmocka_unit_test(a_run_may_be_made_longer_where_that_changes_nothing),
        cmocka_unit_test(a_run_with_states_in_8_bits_goes_on_as_one),
        cmocka_unit_test(a_run_of_before_with_a_lora_s_format_goes_on),
        cmocka_unit_test(checkpoints_without_alpha_are_gone_on_with),
        cmocka_unit_test(another_model_or_other_pictures_are_refused),
        cmocka_unit_test(a_trace_tells_all_of_a_step),
        cmocka_unit_test(every_kohya_folder_has_its_own_repeats),
        cmocka_unit_test(datasets_of_one_name_are_kept_apart),
        cmocka_unit_test(a_dataset_file_trains_as_its_folder_does),
        cmocka_unit_test(a_run_from_before_buckets_goes_on_without_them),
        cmocka_unit_test(a_checkpoint_is_named_by_digits_alone),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
