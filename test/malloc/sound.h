/* What the suites of libneomm-malloc share. They are linked with its objects, so that they can
 * look inside.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_MALLOC_SOUND_H
#define NEOMM_TEST_MALLOC_SOUND_H

#include "ktap.h"
#include "malloc/process.h"

/* Objects that live now. */
uint64_t live_objects(void);

/* The consistency check of the whole engine, while no other thread is inside; and that `before`
 * objects live, as at the beginning. */
void expect_sound(struct ktap *t, uint64_t before);

/* Bytes of RAM that the process occupies. */
size_t resident(void);

/* Whether `size` bytes at `pointer` all are `value`. */
bool all_are(const void *pointer, size_t size, unsigned char value);

/* The next of a series of numbers that look random; the same for the same seed. */
uint32_t next_number(uint32_t *seed);

#endif
