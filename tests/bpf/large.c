/* As large as Cilium's bpf_lxc.o: 32 programs that tail-call one another, and more than 100,000
 * instructions for the verifier to walk.
 */
#include "cni.h"
#include "branches.h"

#define EIGHT(make, n) make(n##0) make(n##1) make(n##2) make(n##3) \
	make(n##4) make(n##5) make(n##6) make(n##7)
#define ALL(make) EIGHT(make, 0) EIGHT(make, 1) EIGHT(make, 2) EIGHT(make, 3)
#define DECLARE(n) static int tail_##n(struct __sk_buff *skb);
#define VALUE(n) tail_##n,
#define DEFINE(n)                                                       \
	SEC("tc/tail") static int tail_##n(struct __sk_buff *skb)       \
	{                                                               \
		if (skb->len == 64 + n)                                 \
			tail_call(skb, &test_calls, skb->mark & 31);    \
		BRANCHES(skb, 12);                                      \
	}

ALL(DECLARE)

struct {
	__uint(type, PROG_ARRAY);
	__uint(key_size, 4);
	__uint(max_entries, 32);
	__uint(pinning, CILIUM_PIN_REPLACE);
	int (*values[])(struct __sk_buff *);
} test_calls SEC(".maps") = {
	.values = { ALL(VALUE) },
};

ALL(DEFINE)

SEC("tc/entry") int cil_from_container(struct __sk_buff *skb)
{
	tail_call(skb, &test_calls, skb->mark & 31);
	return -1;
}
