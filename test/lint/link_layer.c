/* One layer linked with its lower layers alone: what the linker finds is the test.
 * SPDX-License-Identifier: MIT */
#include <neomm/neomm.h>

#include <stdio.h>

int main(void)
{
    /* Taken as a pointer that the compiler cannot see through, so that the reference stays. */
    void *volatile entry = (void *)(uintptr_t)LAYER_ENTRY;

    printf("%s\n", entry != NULL ? "linked" : "missing");
    return entry == NULL;
}
