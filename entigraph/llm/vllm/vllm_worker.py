"""The worker process of the vLLM engine: reads requests from stdin and writes answers to stdout as lines of JSON.

It runs as a script in an environment with vLLM but possibly without entigraph, so it must not import entigraph. The
first line contains the settings. It exits when its input ends, and therefore with the process that started it.

The body of a request has the format of OpenAI's API, with `messages` for the model's chat template. Alternatively it
has the token ids of a `prompt`, which is continued without a template, or scored from token `score_from` on.
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

SECONDS_TO_EXIT = 10.0
NO_TEMPLATE = "the model has no chat template; set llm.chat_template=FILE.jinja"

RequestQueue = queue.SimpleQueue[dict[str, Any] | None]


class EngineServer:
    """Adds requests to the running batch between two steps of the engine, so that the batch stays full."""

    def __init__(self, settings: dict[str, Any], answers: IO[str]) -> None:
        from vllm import LLM

        self.chat, self.answers = settings["chat"], answers
        self.running: dict[str, tuple[float, dict[str, Any]]] = {}
        llm = LLM(**(cpu_workarounds() | settings["engine"]))
        self.engine, self.tokenizer = llm.llm_engine, llm.get_tokenizer()
        # From the model's generation_config.json, as in vLLM's server.
        self.defaults = llm.llm_engine.model_config.get_diff_sampling_param() or {}
        if self.chat:
            if not (self.chat["template"] or getattr(self.tokenizer, "chat_template", NO_TEMPLATE)):
                raise ValueError(NO_TEMPLATE)
            self.apply_chat_template([{"role": "system", "content": "Write."}, {"role": "user", "content": "Now."}])

    def serve(self, lines: RequestQueue) -> None:
        """Answers requests until the input ends."""
        while True:
            while not lines.empty() or not self.running:
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
            prompt, sampling = self.prepare(body, line["seed"])
            self.engine.add_request(number, {"prompt_token_ids": prompt}, sampling)
        except Exception as error:  # a prompt longer than the context, an unsupported schema
            if type(error).__name__ == "EngineDeadError":
                raise
            send(self.answers, number=line["number"], refused=str(error))
        else:
            self.running[number] = (time.monotonic(), body)

    def finish(self, output: Any) -> None:
        started, body = self.running.pop(output.request_id)
        result = score_result(output, body) if "score_from" in body else generation_result(output, body)
        send(self.answers, number=int(output.request_id), seconds=time.monotonic() - started, **result)

    def prepare(self, body: dict[str, Any], seed: int) -> tuple[list[int], Any]:
        """Returns a request's token ids and vLLM's sampling parameters."""
        if "score_from" in body:
            return body["prompt"][:-1], sampling_params(scoring_options(body))
        options = {"temperature": body["temperature"], "seed": seed}
        options |= {name: body[name] for name in ("n", "stop", "stop_token_ids") if name in body}
        if "prompt" in body:  # ends only at the request's stop tokens
            return body["prompt"], sampling_params(options | {"max_tokens": body["max_tokens"], "ignore_eos": True})
        options["max_tokens"] = body.get("max_completion_tokens")
        if "response_format" in body:
            options |= constrain(body["response_format"]["json_schema"]["schema"])
        return self.apply_chat_template(body["messages"]), sampling_params(self.defaults | options)

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        """Returns the token ids of a conversation."""
        options = {"chat_template": self.chat["template"], **self.chat["kwargs"]}
        return list(
            self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False, **options
            )
        )


def cpu_workarounds() -> dict[str, Any]:
    """Returns engine arguments for CPUs, where chunked prefill with a seed crashes vLLM 0.32: gpu_model_runner.py
    rewinds the generator by an offset that CPU generators do not have.
    """
    from vllm.platforms import current_platform

    return {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}


def sampling_params(options: dict[str, Any]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(**options, output_kind=RequestOutputKind.FINAL_ONLY)


def scoring_options(body: dict[str, Any]) -> dict[str, Any]:
    """Returns options that score a prompt: its last token is generated, as the only allowed token.

    The prompt may therefore be one token longer than the model's context, and if only the last token is scored, the
    others come from the prefix cache. Log-likelihoods are those before the restriction of tokens.
    """
    ids = body["prompt"]
    options = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "allowed_token_ids": ids[-1:], "logprobs": 0}
    return options | ({"prompt_logprobs": 0} if body["score_from"] < len(ids) - 1 else {})


def score_result(output: Any, body: dict[str, Any]) -> dict[str, float]:
    ids, prompt_logprobs = body["prompt"], output.prompt_logprobs or []
    logprobs = [prompt_logprobs[index][ids[index]].logprob for index in range(body["score_from"], len(ids) - 1)]
    return {"loglikelihood": sum(logprobs, output.outputs[0].logprobs[0][ids[-1]].logprob)}


def generation_result(output: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer in the API's format; for prompts of token ids it includes token ids."""
    choices = [
        {"text": choice.text, "finish_reason": choice.finish_reason or "stop"}
        | ({"token_ids": list(choice.token_ids)} if "prompt" in body else {})
        for choice in output.outputs
    ]
    usage = {
        "prompt_tokens": len(output.prompt_token_ids),
        "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens or 0},
        "completion_tokens": sum(len(choice.token_ids) for choice in output.outputs),
    }
    return {"choices": choices, "usage": usage}


def constrain(schema: dict[str, Any]) -> dict[str, Any]:
    from vllm.sampling_params import StructuredOutputsParams

    return {"structured_outputs": StructuredOutputsParams(json=schema)}


def send(answers: IO[str], **values: Any) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def read(requests: IO[bytes], lines: RequestQueue) -> None:
    """Reads requests. Kills all engine processes if they do not exit after the end of input."""
    for line in requests:
        lines.put(json.loads(line))
    lines.put(None)
    time.sleep(SECONDS_TO_EXIT)
    os.killpg(0, signal.SIGKILL)


def private_pipes() -> tuple[IO[bytes], IO[str]]:
    """Returns private copies of the pipes: vLLM prints to stdout, and its processes close an inherited stdin."""
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
        server = EngineServer(settings, answers)
        send(answers, ready=vllm.__version__)
        server.serve(lines)
    except BrokenPipeError:  # the parent process has exited
        return 0
    except Exception as error:
        traceback.print_exc()
        message = str(error)
        if message and "root cause" not in message:  # "root cause": an engine process died, and the log has the cause
            send(answers, fatal=message)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        from importlib.util import find_spec

        sys.exit(find_spec("vllm") is None)
    sys.exit(main())
