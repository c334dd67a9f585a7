/* An operation does not take integers for floats: each of its inputs, stored as i8, is refused, and the
 * message names the type. (Not by every case: some do not use all of their inputs, and views read nothing.)
 */
#include "isa_devices.h"
#include "opcase.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool refuses(Ctx *c, const OpTest *test, int input)
{
    Reference r = reference_of(test, false);
    Run run = run_with_wrong(c->dev, &r, c->dtype, input);
    const bool refused = ctx_run(c, NULL, opcase_step, &run) == STATUS_FAILED;
    if (refused && !strstr(status_message(), "i8"))
        fail_msg("the message does not name i8: %s", status_message());
    run_free(&run);
    reference_free(&r);
    return refused;
}

void optest_check_wrong_type(const char *name, const OpTest *tests, int count)
{
    Device table[ALL_DEVICES_MAX];
    const int isas = all_devices(table);
    for (int d = 0; d < isas; d++) {
        const DType dtype = table[d].lacks_bf16 ? DTYPE_F16 : DTYPE_BF16;
        Ctx *c = opcase_checked(ctx_new(&table[d], &(CtxOptions){.dtype = dtype, .threads = 1}));
        for (int input = 0; input < OPTEST_MAX; input++) {
            bool there = false, refused = false;
            for (int t = 0; t < count; t++)
                if (input < tests[t].c.inputs) {
                    there = true;
                    refused = refused || refuses(c, &tests[t], input);
                }
            if (there && !refused)
                fail_msg("%s, %s: input %d is stored as i8, and no case refuses it", name, table[d].name,
                         input);
        }
        ctx_free(c);
    }
}
