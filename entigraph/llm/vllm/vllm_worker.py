"""The vLLM engine's own process: requests come as lines of JSON, each answer goes back as one when it is written.

Run as a file by the Python of an environment that has vLLM; nothing of entigraph need be there, so it imports nothing
of it. The first line holds the settings. It ends when its input does, and so with whoever started it.

A request's body is the API's, with `messages` for the model's chat template; or has the token ids of a `prompt`, which
is gone on with as it stands, or scored from the token `score_from` on.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import IO, Any

SECONDS_TO_LEAVE = 10.0
NO_TEMPLATE = "the model has no chat template; name a file with one: llm.chat_template=FILE.jinja"

RequestQueue = queue.SimpleQueue[dict[str, Any] | None]


class EngineServer:
    """Requests join the running batch between two steps of the engine, so that it stays full."""

    def __init__(self, settings: dict[str, Any], answers: IO[str]) -> None:
        from vllm import LLM

        self.chat, self.answers = settings["chat"], answers
        self.begun: dict[str, tuple[float, dict[str, Any]]] = {}
        llm = LLM(**(on_cpus() | settings["engine"]))
        self.engine, self.tokenizer = llm.llm_engine, llm.get_tokenizer()
        # The model's own generation_config.json, which vLLM's server takes too.
        self.defaults = llm.llm_engine.model_config.get_diff_sampling_param() or {}
        if self.chat:
            if not (self.chat["template"] or getattr(self.tokenizer, "chat_template", NO_TEMPLATE)):
                raise ValueError(NO_TEMPLATE)
            self.in_tokens([{"role": "system", "content": "Write."}, {"role": "user", "content": "Now."}])

    def serve(self, lines: RequestQueue) -> None:
        """Until the input ends."""
        while True:
            while not lines.empty() or not self.begun:
                line = lines.get()
                if line is None:
                    return
                self.begin(line)
            for output in self.engine.step():
                if output.finished:
                    self.finish(output)

    def begin(self, line: dict[str, Any]) -> None:
        number, body = str(line["number"]), line["body"]
        try:
            prompt, sampling = self.asked(body, line["seed"])
            self.engine.add_request(number, {"prompt_token_ids": prompt}, sampling)
        except Exception as error:  # longer than the model's context, a schema that it cannot keep to
            if type(error).__name__ == "EngineDeadError":
                raise
            tell(self.answers, number=line["number"], refused=str(error))
        else:
            self.begun[number] = (time.monotonic(), body)

    def finish(self, output: Any) -> None:
        began, body = self.begun.pop(output.request_id)
        found = scored(output, body) if "score_from" in body else written(output, body)
        tell(self.answers, number=int(output.request_id), seconds=time.monotonic() - began, **found)

    def asked(self, body: dict[str, Any], seed: int) -> tuple[list[int], Any]:
        """A request in tokens and in vLLM's words."""
        if "score_from" in body:
            return body["prompt"][:-1], sampling(scoring(body))
        given = {"temperature": body["temperature"], "seed": seed}
        given |= {name: body[name] for name in ("n", "stop", "stop_token_ids") if name in body}
        if "prompt" in body:  # whose ends are those that it names
            return body["prompt"], sampling(given | {"max_tokens": body["max_tokens"], "ignore_eos": True})
        given["max_tokens"] = body.get("max_completion_tokens")
        if "response_format" in body:
            given |= constrained(body["response_format"]["json_schema"]["schema"])
        return self.in_tokens(body["messages"]), sampling(self.defaults | given)

    def in_tokens(self, messages: list[dict[str, str]]) -> list[int]:
        """The conversation in the model's own form."""
        options = {"chat_template": self.chat["template"], **self.chat["kwargs"]}
        return list(
            self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False, **options
            )
        )


def on_cpus() -> dict[str, Any]:
    """There a prompt that is read in parts, and then drawn from with a seed, ends vLLM (0.32, in gpu_model_runner.py):
    it turns the generator back by an offset that CPUs do not have.
    """
    from vllm.platforms import current_platform

    return {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}


def sampling(given: dict[str, Any]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(**given, output_kind=RequestOutputKind.FINAL_ONLY)


def scoring(body: dict[str, Any]) -> dict[str, Any]:
    """The last token is generated, as the only one allowed, behind the others as a prompt: so as many fit as the model
    reads, and a single scored token leaves the others to the prefix cache. Log-likelihoods are those of the model, from
    before any choice of tokens.
    """
    ids = body["prompt"]
    given = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "allowed_token_ids": ids[-1:], "logprobs": 0}
    return given | ({"prompt_logprobs": 0} if body["score_from"] < len(ids) - 1 else {})


def scored(output: Any, body: dict[str, Any]) -> dict[str, float]:
    ids, known = body["prompt"], output.prompt_logprobs or []
    found = [known[place][ids[place]].logprob for place in range(body["score_from"], len(ids) - 1)]
    return {"loglikelihood": sum(found, output.outputs[0].logprobs[0][ids[-1]].logprob)}


def written(output: Any, body: dict[str, Any]) -> dict[str, Any]:
    """In the API's form; an answer to token ids has its own."""
    found = [
        {"text": each.text, "finish_reason": each.finish_reason or "stop"}
        | ({"token_ids": list(each.token_ids)} if "prompt" in body else {})
        for each in output.outputs
    ]
    usage = {
        "prompt_tokens": len(output.prompt_token_ids),
        "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens or 0},
        "completion_tokens": sum(len(each.token_ids) for each in output.outputs),
    }
    return {"choices": found, "usage": usage}


def constrained(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        from vllm.sampling_params import StructuredOutputsParams
    except ImportError:  # before vLLM 0.11
        from vllm.sampling_params import GuidedDecodingParams

        return {"guided_decoding": GuidedDecodingParams(json=schema)}
    return {"structured_outputs": StructuredOutputsParams(json=schema)}


def tell(answers: IO[str], **values: Any) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def read(requests: IO[bytes], lines: RequestQueue) -> None:
    """Ends everything, the engine's processes too, where the engine does not end by itself when the input did."""
    for line in requests:
        lines.put(json.loads(line))
    lines.put(None)
    time.sleep(SECONDS_TO_LEAVE)
    os.killpg(0, signal.SIGKILL)


def private_pipes() -> tuple[IO[bytes], IO[str]]:
    """The pipes to whoever started us; vLLM prints to stdout, and its processes close what they inherit of stdin."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return requests, answers


def main() -> int:
    requests, answers = private_pipes()
    lines: RequestQueue = queue.SimpleQueue()
    threading.Thread(target=read, args=(requests, lines), daemon=True).start()
    settings = lines.get()
    if settings is None:
        return 0
    import vllm

    try:
        writer = EngineServer(settings, answers)
        tell(answers, ready=vllm.__version__)
        writer.serve(lines)
    except BrokenPipeError:  # nobody listens any more
        return 0
    except Exception as error:
        traceback.print_exc()
        if str(error) and "root cause" not in str(error):  # vLLM's log has it: an engine process died
            tell(answers, fatal=str(error))
        return 1
    return 0


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]  # whose vllm.py is not vLLM
    if sys.argv[1:] == ["--check"]:
        from importlib.util import find_spec

        sys.exit(find_spec("vllm") is None)
    sys.exit(main())
