/* What Cilium asks the kernel at its start: from 7.2 on «R1 is not a scalar». */
#include "cni.h"

SEC("cgroup/sock") int cil_set_retval(struct bpf_sock *context)
{
	set_retval(context);
	return 1;
}
