/* Random numbers: Philox's published answers, streams that depend on nothing but their key, and PyTorch's
 * bits (tests/golden/randn.txt, written by scripts/reference/randn.py). */
#include "kernels/base/random.h"
#include "kernels/base/sha256.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Random123's kat_vectors for philox4x32-10. */
static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        philox4x32(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static const RandomKey key = {.seed = 0x123456789abcdefu, .step = 17, .sample = 3, .purpose = RANDOM_NOISE};

static void every_part_of_a_key_changes_its_stream(void **state)
{
    RandomKey other[] = {key, key, key, key, key};
    (void)state;
    other[0].seed ^= 1;
    other[1].seed ^= 1ull << 40;
    other[2].step++;
    other[3].sample++;
    other[4].purpose = RANDOM_TIMESTEP;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_int_not_equal(random_u32(key, 0), random_u32(other[i], 0));
    for (uint32_t i = 0; i < 8; i++)
        assert_int_not_equal(random_u32(key, i), random_u32(key, i + 1));
}

static void numbers_below_n_come_equally_often(void **state)
{
    int count[7] = {0};
    (void)state;
    for (uint32_t i = 0; i < 70000; i++) {
        const uint32_t x = random_below(key, i, 7);
        assert_true(x < 7);
        count[x]++;
        const double u = random_uniform(key, i);
        assert_true(u >= 0 && u < 1);
    }
    for (int i = 0; i < 7; i++) /* 10000 each, give or take five deviations */
        assert_true(abs(count[i] - 10000) < 470);
}

static void normal_numbers_have_the_moments_of_the_normal_distribution(void **state)
{
    enum { N = 100000 };
    float *x = malloc(sizeof(float) * N);
    double sum = 0, squares = 0, cubes = 0, fourths = 0, neighbours = 0;
    (void)state;
    assert_non_null(x);
    random_normal(key, x, N);
    for (int i = 0; i < N; i++) {
        sum += x[i];
        squares += pow(x[i], 2);
        cubes += pow(x[i], 3);
        fourths += pow(x[i], 4);
        neighbours += i ? x[i] * x[i - 1] : 0;
    }
    free(x);
    assert_true(fabs(sum / N) < 0.016);
    assert_true(fabs(squares / N - 1) < 0.023);
    assert_true(fabs(cubes / N) < 0.062);
    assert_true(fabs(fourths / N - 3) < 0.16);
    assert_true(fabs(neighbours / N) < 0.016);
}

/* Batch 4 and batch 1 × accumulate 4 see the same noise: a stream's beginning doesn't depend on how much is
 * asked. */
static void a_shorter_draw_is_the_beginning_of_a_longer_one(void **state)
{
    float whole[100], part[100];
    (void)state;
    random_normal(key, whole, 100);
    for (size_t n = 0; n < 40; n++) {
        memset(part, 0x55, sizeof part);
        random_normal(key, part, n);
        assert_memory_equal(part, whole, n * sizeof *part);
        assert_int_equal(((unsigned char *)part)[n * sizeof *part], 0x55);
    }
}

static void a_permutation_holds_every_number_once(void **state)
{
    uint32_t order[1000], again[1000];
    int seen[1000] = {0}, in_place = 0;
    (void)state;
    random_permutation(key, order, 1000);
    random_permutation(key, again, 1000);
    assert_memory_equal(order, again, sizeof order);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(order[i] < 1000);
        seen[order[i]]++;
        in_place += order[i] == i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(seen[i], 1);
    assert_true(in_place < 10);
    random_permutation(key, order, 0);
    random_permutation(key, order, 1);
    assert_int_equal(order[0], 0);
}

/* The tenth thousandth output of the reference mt19937 with its default seed (C++'s std::mt19937 states it).
 */
static void mersenne_twister_gives_the_published_answer(void **state)
{
    TorchRandom g;
    uint32_t x = 0;
    (void)state;
    torch_seed(&g, 5489);
    for (int i = 0; i < 10000; i++)
        x = torch_u32(&g);
    assert_int_equal(x, 4123659995u);
}

static void check_line(const char *line)
{
    char sizes[64], hash[80], hex[SHA256_HEX_SIZE];
    unsigned long long seed;
    unsigned first[4];
    uint8_t digest[SHA256_SIZE];
    size_t total = 0;
    TorchRandom g;
    const int fields = sscanf(line, "%llu %63s %79s %x %x %x %x", &seed, sizes, hash, &first[0], &first[1],
                              &first[2], &first[3]);
    assert_true(fields >= 4);
    float *x = malloc(sizeof(float) * (1 << 19));
    assert_non_null(x);
    torch_seed(&g, seed);
    for (char *at = sizes; *at;) {
        const size_t n = strtoul(at, &at, 10);
        assert_true(total + n < 1 << 19);
        torch_randn(&g, x + total, n);
        total += n;
        at += *at == ',';
    }
    for (size_t i = 0; i < total && i < (size_t)fields - 3; i++)
        if (memcmp(&x[i], &first[i], sizeof(float)) != 0)
            fail_msg("seed %llu, sizes %s: value %zu is %.9g", seed, sizes, i, (double)x[i]);
    sha256(x, total * sizeof *x, digest);
    free(x);
    if (strcmp(sha256_hex(digest, hex), hash) != 0)
        fail_msg("seed %llu, sizes %s: a later value differs", seed, sizes);
}

static void pytorchs_randn_comes_out_bit_for_bit(void **state)
{
    char line[256];
    int lines = 0;
    FILE *f = fopen(TEST_GOLDEN "/randn.txt", "r");
    (void)state;
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); lines++)
        check_line(line);
    fclose(f);
    assert_int_equal(lines, 15);
}

static void seeding_again_forgets_the_kept_number(void **state)
{
    TorchRandom g;
    float a[3], b[3];
    (void)state;
    torch_seed(&g, 1);
    torch_randn(&g, a, 3);
    torch_seed(&g, 1);
    torch_randn(&g, b, 3);
    assert_memory_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(every_part_of_a_key_changes_its_stream),
        cmocka_unit_test(numbers_below_n_come_equally_often),
        cmocka_unit_test(normal_numbers_have_the_moments_of_the_normal_distribution),
        cmocka_unit_test(a_shorter_draw_is_the_beginning_of_a_longer_one),
        cmocka_unit_test(a_permutation_holds_every_number_once),
        cmocka_unit_test(mersenne_twister_gives_the_published_answer),
        cmocka_unit_test(pytorchs_randn_comes_out_bit_for_bit),
        cmocka_unit_test(seeding_again_forgets_the_kept_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
