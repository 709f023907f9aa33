/* The traits of Cilium's objects that libbpf refuses as they are: sections it does not know, static
 * functions as programs, initial values of a prog array among them, and a pinning of its own.
 */
#include "cni.h"

static int tail_first(struct __sk_buff *skb);
static int tail_second(struct __sk_buff *skb);

struct {
	__uint(type, PROG_ARRAY);
	__uint(key_size, 4);
	__uint(max_entries, 4);
	__uint(pinning, CILIUM_PIN_REPLACE);
	int (*values[])(struct __sk_buff *);
} test_calls SEC(".maps") = {
	.values = { [1] = tail_first, [2] = tail_second },
};

struct {
	__uint(type, HASH);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1 << 20);
	__uint(pinning, PIN_BY_NAME);
} test_state SEC(".maps");

SEC(".rodata.config") volatile const u32 config_mark = 7;

SEC("tc/tail") static int tail_first(struct __sk_buff *skb)
{
	u32 key = skb->mark;
	u64 *value = map_lookup(&test_state, &key);

	tail_call(skb, &test_calls, 2);
	return value ? (int)*value : -1;
}

SEC("tc/tail") static int tail_second(struct __sk_buff *skb)
{
	return skb->len > 1500 ? 2 : -1;
}

SEC("tc/entry") int cil_from_test(struct __sk_buff *skb)
{
	if (skb->mark == config_mark)
		tail_call(skb, &test_calls, 1);
	return -1;
}
