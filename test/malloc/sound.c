/* What the suites of libneomm-malloc share.
 * SPDX-License-Identifier: MIT */
#include "sound.h"

#include <fcntl.h>
#include <neomm/heap.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t live_objects(void)
{
    struct neomm_heap_stats stats;
    struct process_thread *self = process_enter_any();
    neomm_heap_stats(process.root, &stats);
    process_leave_any(self);
    return stats.objects;
}

static void note(void *context, const char *line)
{
    ktap_note(context, "%s", line);
}

void expect_sound(struct ktap *t, uint64_t before)
{
    struct process_thread *self = process_enter_any();
    size_t findings = neomm_fsck(process.root, note, t);
    process_leave_any(self);
    EXPECT_EQ(t, findings, 0);
    EXPECT_EQ(t, live_objects(), before);
}

size_t resident(void)
{
    char text[128] = {0};
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(file, text, sizeof(text) - 1);
    (void)close(file);
    const char *second = n > 0 ? strchr(text, ' ') : NULL;
    return second ? (size_t)strtoull(second, NULL, 10) * NEOMM_PAGE_SIZE : 0;
}

bool all_are(const void *pointer, size_t size, unsigned char value)
{
    const unsigned char *byte = pointer;
    for (size_t i = 0; i < size; i++)
        if (byte[i] != value)
            return false;
    return true;
}

uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}
