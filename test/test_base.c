/* Tests of the base layer.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include "base/bits.h"

static void divide(struct ktap *t)
{
    uint64_t x = 1;
    for (int i = 0; i < 1000; i++) {
        uint32_t rest, by = (uint32_t)(x >> 40 & 0xffff) | 1;
        EXPECT(t, neomm__divide(x, by, &rest) == x / by && rest == x % by);
        x = neomm__mix(x + 0x9e3779b97f4a7c15u);
    }
}

static const struct ktap_case cases[] = {
    KTAP_CASE(divide),
};
KTAP_SUITE(base, cases);
