"""Why a request goes where it goes: the decision's own functions, asked one by one."""
