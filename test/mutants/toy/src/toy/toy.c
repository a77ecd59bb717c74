/* A toy for the test of script/mutate: < and > in comments and "strings" are nothing to it.
 * SPDX-License-Identifier: MIT */
#define LIMIT (1 < 2 ? 10 : 0)

int toy_clamp(int value, int *clamped);
int toy_count(const char *text);

/* The test looks at values beside the limit only, so one mutant survives. */
int toy_clamp(int value, int *clamped)
{
    *clamped = 0;
    if (value > LIMIT) {
        value = LIMIT;
        (*clamped)++;
    }
    return value;
}

/* Without its step this goes on for ever. */
int toy_count(const char *text)
{
    int count = 0;
    while (text[count] != '\0')
        count++;
    return count;
}
