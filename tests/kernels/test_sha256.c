/* SHA-256 against the known answers of FIPS 180-4 and of NIST's test vectors. */
#include "kernels/base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void check(const char *message, const char *expected)
{
    uint8_t hash[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    sha256(message, strlen(message), hash);
    assert_string_equal(sha256_hex(hash, hex), expected);
}

static void known_answers(void **state)
{
    (void)state;
    check("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmn"
          "opqrst"
          "nopqrstu",
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

/* A million letters "a", handed over in pieces of every size up to 200: no block boundary may matter. */
static void pieces_make_no_difference(void **state)
{
    (void)state;
    char piece[200];
    memset(piece, 'a', sizeof piece);
    Sha256 s;
    sha256_init(&s);
    size_t done = 0;
    for (size_t n = 0; done < 1000000; n = (n + 1) % 201) {
        const size_t take = n < 1000000 - done ? n : 1000000 - done;
        sha256_update(&s, piece, take);
        done += take;
    }
    uint8_t hash[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    sha256_final(&s, hash);
    assert_string_equal(sha256_hex(hash, hex),
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers),
                                       cmocka_unit_test(pieces_make_no_difference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
