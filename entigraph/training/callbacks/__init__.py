"""The callbacks of a training run: ours, and yours beside them.

`conf/callbacks/` has an option for each of ours: `callbacks=[checkpointing,throughput,finite_check,progress]`. Any
`lightning.Callback` can be added from the command line: `+callbacks.mine._target_=my_package.MyCallback`.

A callback must leave alone what exact resume depends on:

- the data order: do not replace the dataloaders or skip batches;
- the random state: `training_step` seeds torch from the seed, the micro-batch and the rank, so numbers drawn between
  steps do no harm, but a callback that draws inside the forward pass changes the result;
- its own state: what influences training must be in `state_dict()` and come back in `load_state_dict()`. A run that is
  killed at any step must end with the same weights as one that was not.

Callbacks of other packages enter the training's cache key, because they may change the weights; ours do not.
"""
