/* How much of its histories and schedules a test does. The whole is what it does by itself; where
 * that would take long, the build asks for an nth by NEOMM_SHARE=n in the environment (see
 * cmake/neomm-share.cmake). A share is the first part of the whole, and never nothing.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_SHARE_H
#define NEOMM_TEST_SHARE_H

#include <stdint.h>
#include <stdlib.h>

static inline uint64_t share_divisor(void)
{
    const char *text = getenv("NEOMM_SHARE");
    return text && atoi(text) > 1 ? (uint64_t)atoi(text) : 1;
}

static inline uint64_t share_of(uint64_t whole)
{
    uint64_t part = whole / share_divisor();
    return part > 0 ? part : 1;
}

#endif
