"""Lightning callbacks of training.

`conf/callbacks/` has an option for each callback: `callbacks=[checkpointing,throughput,finite_check,progress]`. Any
`lightning.Callback` can be added from the command line: `+callbacks.mine._target_=my_package.MyCallback`.

A callback must not break exact resume, which depends on

- the data order: do not replace the dataloaders or skip batches;
- the random state: `training_step` seeds torch from the seed, the micro-batch and the rank, so random numbers between
  steps are harmless, but random numbers in the forward pass change the result;
- the callback's state: everything that affects training must be in `state_dict()` and restored by `load_state_dict()`.
  A run that is killed at any step must end with the same weights as an uninterrupted run.

Callbacks of other packages enter the cache key of training, because they may change the weights; those here do not.
"""
