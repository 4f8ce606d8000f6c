"""Backend that runs a Hugging Face model in this process."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer

from entigraph.evaluation.backends.decoding import BatchDecoder
from entigraph.evaluation.backends.likelihoods import LikelihoodScorer
from entigraph.evaluation.backends.local_backend import ChatTemplate, LocalBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling, ScoredSequence
from entigraph.huggingface.model_folders import max_positions
from entigraph.huggingface.models import eos_token_ids, load_model
from entigraph.runtime.devices import keep_freed_memory

UNLIMITED_CONTEXT = 1 << 30
# On a CPU, smaller models, such as the demo's, run under autocast: it is fast enough, and more exact.
CASTING_PARAMETERS = 10_000_000


class TransformersBackend(LocalBackend):
    """With `bf16`, the model computes in bf16; log-likelihoods are still summed in fp32."""

    def __init__(
        self,
        path: str,
        tokenizer: Tokenizer,
        bos_id: int | None,
        device: str,
        bf16: bool,
        threads: int | None,
        chat: ChatTemplate | None = None,
    ) -> None:
        if device == "cpu":
            keep_freed_memory()
            if threads:
                torch.set_num_threads(threads)
        # In bf16, weights take half the memory of the host on their way to a GPU.
        model: Any = load_model(path, "bfloat16" if bf16 and device != "cpu" else "float32")
        # Autocast would convert all weights to bf16 again in every forward pass.
        self.casts = bf16 and (device != "cpu" or model.num_parameters() >= CASTING_PARAMETERS)
        if self.casts:
            cast_weights(model)
        max_length = max_positions(model.config.get_text_config().to_dict()) or UNLIMITED_CONTEXT
        super().__init__(tokenizer, bos_id, max_length, eos_token_ids(model.generation_config), chat)
        # cuDNN's attention keeps a plan for every length of the keys, which grow with every token.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.model = model.to(device)
        self.model.train(False)
        self.device, self.bf16 = device, bf16

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        encoded = [self.encode_prompt(prompt) for prompt in prompts]
        fitting, too_long = self.split_by_length(encoded, sampling.max_tokens)
        yield from ((index, []) for index in too_long)
        decoder = BatchDecoder(self.model, self.device, self.ends, self.decode, self.autocast)
        for position, generations in decoder.sample(
            [prompts[index].key for index in fitting], [encoded[index] for index in fitting], sampling
        ):
            prompt = encoded[fitting[position]]
            yield (
                fitting[position],
                [replace(each, text=self.remove_reasoning(prompt, each.text)) for each in generations],
            )

    def score(self, sequences: Sequence[ScoredSequence], batch_tokens: int) -> Iterator[tuple[int, float]]:
        return LikelihoodScorer(self.model, self.device, self.autocast).score(sequences, batch_tokens)

    def autocast(self) -> AbstractContextManager[object]:
        mixed = self.bf16 and not self.casts
        return torch.autocast(self.device, dtype=torch.bfloat16) if mixed else nullcontext()


def cast_weights(model: torch.nn.Module) -> None:
    """Casts weights to bf16 in place, like a model loaded with `dtype=torch.bfloat16`.

    Buffers stay in fp32: rotary frequencies in bf16 are off by radians after a thousand tokens.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
