/* The body of a program whose states double with each slot: so much work for the verifier. */
struct {
	__uint(type, ARRAY);
	__type(key, u32);
	__uint(value_size, 512);
	__uint(max_entries, 1);
} test_values SEC(".maps");

#define BRANCHES(skb, count)                                                        \
	u32 slots[count], mark = (skb)->mark, zero = 0, sum = 0;                     \
	volatile u32 *slot = slots;                                                  \
	char *values;                                                                \
                                                                                     \
	_Pragma("unroll") for (int i = 0; i < count; i++)                            \
	{                                                                            \
		if (mark >> i & 1) {                                                 \
			slot[i] = 1;                                                 \
			asm volatile("" ::: "memory"); /* a branch, no arithmetic */ \
		} else {                                                             \
			slot[i] = 0;                                                 \
		}                                                                    \
	}                                                                            \
	values = map_lookup(&test_values, &zero);                                    \
	if (!values)                                                                 \
		return -1;                                                           \
	_Pragma("unroll") for (int i = 0; i < count; i++)                            \
	{                                                                            \
		u32 index = slot[i];                                                 \
                                                                                     \
		if (index > 1)                                                       \
			return -1;                                                   \
		sum += values[index * 8];                                            \
	}                                                                            \
	return sum ? -1 : 2
