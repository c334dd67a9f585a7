/* What a run tells TensorBoard: records as TensorFlow writes them, the log's numbers, previews, and what was
 * lost to a kill taken back. Breaks if a record, a field or a number is another. */
#include "runs.h"

#include "train/events/events.h"
#include "train/events/record.h"

#include <fcntl.h>
#include <unistd.h>

/* Records ---------------------------------------------------------------------------------------------- */

/* All but the bytes of the picture. */
static Message number_and_picture(void)
{
    Message none = {0}, m = {0}, summary = {0}, loss = {0}, preview = {0}, image = {0};
    message_add_double(&m, 1, 1.5);
    message_add_number(&m, 2, 300);
    message_add_text(&loss, 1, "loss");
    message_add_float(&loss, 2, 0.1f);
    message_add_message(&summary, 1, &loss);
    message_add_text(&preview, 1, "previews");
    message_add_number(&image, 1, 64);
    message_add_number(&image, 2, 130);
    message_add_number(&image, 3, 3);
    message_add_begun(&image, 4, &none, 4);
    message_add_begun(&preview, 4, &image, 4);
    message_add_begun(&summary, 1, &preview, 4);
    message_add_begun(&m, 5, &summary, 4);
    message_free(&summary);
    message_free(&loss);
    message_free(&preview);
    message_free(&image);
    return m;
}

static void records_are_tensorboards(void **state)
{
    (void)state;
    char *path = mem_printf("%s/records", work), *ours, *theirs;
    size_t size, wanted;
    Message m[3] = {number_and_picture()}, start = {0};
    message_add_double(&m[1], 1, 2);
    message_add_number(&m[1], 2, 7);
    message_add_number(&start, 1, 1);
    message_add_message(&m[1], 7, &start);
    message_add_double(&m[2], 1, 2);
    message_add_text(&m[2], 3, "brain.Event:2");
    const int fd = open(path, O_WRONLY | O_CREAT, 0666);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(record_write(fd, path, &m[i], i == 0 ? "\x89PNG" : NULL, i == 0 ? 4 : 0), STATUS_OK);
        message_free(&m[i]);
    }
    message_free(&start);
    close(fd);
    assert_int_equal(file_read(path, 1 << 20, &ours, &size), STATUS_OK);
    assert_int_equal(file_read(TEST_GOLDEN "/events.tfevents", 1 << 20, &theirs, &wanted), STATUS_OK);
    assert_int_equal(size, wanted);
    assert_memory_equal(ours, theirs, size);
    mem_free(ours);
    mem_free(theirs);
    mem_free(path);
}

/* Reading ---------------------------------------------------------------------------------------------- */

typedef struct Bytes {
    const unsigned char *at;
    size_t count;
} Bytes;

static uint64_t take_varint(Bytes *b)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(b->count > 0 && shift < 64);
        const unsigned char byte = *b->at++;
        b->count--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

/* The next field of a message: its number, and its bytes or its value. */
static int take_field(Bytes *b, Bytes *inner, uint64_t *value)
{
    const uint64_t key = take_varint(b);
    *inner = (Bytes){b->at, 0};
    *value = 0;
    if ((key & 7) == 0) {
        *value = take_varint(b);
        return (int)(key >> 3);
    }
    inner->count = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : take_varint(b);
    inner->at = b->at;
    assert_true(inner->count <= b->count);
    b->at += inner->count;
    b->count -= inner->count;
    return (int)(key >> 3);
}

/* What a run's file has come to tell of each step, as TensorBoard takes it. */
#define STEPS 16
typedef struct Told {
    bool loss_is[STEPS], picture_is[STEPS];
    float loss[STEPS];
    int sessions;
} Told;

static void take_back(Told *told, uint64_t from)
{
    for (uint64_t i = from; i < STEPS; i++)
        told->loss_is[i] = told->picture_is[i] = false;
}

static void take_value(Told *told, uint64_t step, Bytes value)
{
    Bytes inner;
    uint64_t number;
    char tag[32] = "";
    while (value.count > 0) {
        const int field = take_field(&value, &inner, &number);
        if (field == 1)
            snprintf(tag, sizeof tag, "%.*s", (int)inner.count, (const char *)inner.at);
        if (field == 2 && strcmp(tag, "loss") == 0) {
            memcpy(&told->loss[step], inner.at, 4);
            told->loss_is[step] = true;
        }
        if (field == 4 && strcmp(tag, "previews") == 0)
            told->picture_is[step] = true;
    }
}

static void take_event(Told *told, Bytes event)
{
    Bytes inner, value;
    uint64_t number, step = 0;
    while (event.count > 0) {
        const int field = take_field(&event, &inner, &number);
        if (field == 2)
            step = number;
        assert_true(step < STEPS);
        if (field == 7) {
            told->sessions++;
            take_back(told, step);
        }
        while (field == 5 && inner.count > 0) {
            assert_int_equal(take_field(&inner, &value, &number), 1);
            take_value(told, step, value);
        }
    }
}

static void take_records(Told *told, const char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        uint64_t length;
        memcpy(&length, data + at, 8);
        assert_true(length + 16 <= size - at);
        take_event(told, (Bytes){(const unsigned char *)data + at + 12, length});
        at += length + 16;
    }
}

static Told told_by(const char *name)
{
    Told told = {0};
    char *path = mem_printf("%s/%s/" EVENTS_FILE, work, name), *data;
    size_t size;
    if (file_exists(path)) {
        assert_int_equal(file_read(path, 1 << 24, &data, &size), STATUS_OK);
        take_records(&told, data, size);
        mem_free(data);
    }
    mem_free(path);
    return told;
}

/* Runs ------------------------------------------------------------------------------------------------- */

#define PREVIEWS "preview.every=2", "preview.prompts=[a bell]", "preview.steps=1"

static void assert_as_logged(const char *name, const Told *told, int steps)
{
    assert_false(told->loss_is[0]);
    for (int step = 1; step < STEPS; step++) {
        assert_int_equal(told->loss_is[step], step <= steps);
        if (step <= steps)
            assert_true(told->loss[step] == (float)number(name, step - 1, "loss"));
        assert_int_equal(told->picture_is[step], step <= steps && step % 2 == 0);
    }
    assert_true(told->picture_is[0]);
}

static void a_run_tells_what_it_logs(void **state)
{
    (void)state;
    train(config_for("told", SD1, PREVIEWS, (char *)NULL), NULL);
    const Told told = told_by("told");
    assert_int_equal(told.sessions, 1);
    assert_as_logged("told", &told, 6);
}

/* As after a kill: steps 5 and 6 were told of, another was begun, the checkpoint is of step 4. */
static void what_was_lost_is_taken_back(void **state)
{
    (void)state;
    train(config_for("lost", SD1, PREVIEWS, (char *)NULL), NULL);
    char *last = mem_printf("%s/lost/checkpoints/step-000006", work);
    assert_int_equal(dir_remove(last), STATUS_OK);
    mem_free(last);
    unfinish("lost");
    char *torn =
        mem_printf("cd %s/lost && head -c 57 " EVENTS_FILE " > torn && cat torn >> " EVENTS_FILE, work);
    assert_int_equal(system(torn), 0);
    mem_free(torn);
    train(config_for("lost", SD1, PREVIEWS, (char *)NULL), "auto");
    const Told told = told_by("lost");
    assert_int_equal(told.sessions, 2);
    assert_as_logged("lost", &told, 6);
}

static void it_can_be_left_out(void **state)
{
    (void)state;
    train(config_for("quiet", SD1, "output.events=false", "train.steps=1", (char *)NULL), NULL);
    assert_int_equal(told_by("quiet").sessions, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_tensorboards),
        cmocka_unit_test(a_run_tells_what_it_logs),
        cmocka_unit_test(what_was_lost_is_taken_back),
        cmocka_unit_test(it_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
