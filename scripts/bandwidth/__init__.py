"""How close to the speed of memory own operators run, call by call, with stock operators beside them."""
