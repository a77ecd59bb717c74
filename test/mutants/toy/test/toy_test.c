/* A test of the toy that does not try the limit itself.
 * SPDX-License-Identifier: MIT */
int toy_clamp(int value, int *clamped);
int toy_count(const char *text);

int main(void)
{
    int clamped = 7;
    if (toy_clamp(3, &clamped) != 3 || clamped != 0)
        return 1;
    if (toy_clamp(11, &clamped) != 10 || clamped != 1)
        return 1;
    return toy_count("four") != 4;
}
