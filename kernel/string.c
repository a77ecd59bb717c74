/* The memory functions that every freestanding C environment must supply.
 * SPDX-License-Identifier: MIT
 *
 * String instructions, not loops: a compiler may turn a loop that copies into a call to memcpy.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    void *next = to;
    __asm__ volatile("rep movsb" : "+D"(next), "+S"(from), "+c"(size) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    /* `to` lies inside the source: from the last byte down. */
    char *last = (char *)to + size - 1;
    const char *source = (const char *)from + size - 1;
    __asm__ volatile("std; rep movsb; cld" : "+D"(last), "+S"(source), "+c"(size) : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *next = to;
    __asm__ volatile("rep stosb" : "+D"(next), "+c"(size) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a, *right = b;
    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    return 0;
}
