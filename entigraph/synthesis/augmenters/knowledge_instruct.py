"""Knowledge-Instruct (arXiv 2504.05571): entities, facts about each, and every fact reworded as instructions."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from entigraph.config.fields import check_minimums
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.llm.offline.outline import ask_about_statement, topics
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.entity_lists import EntityAugmenter
from entigraph.synthesis.augmenters.item_lists import pick_item, read_object
from entigraph.synthesis.base import BadAnswer, Graphs, Steps, WritingTask, round_robin
from entigraph.text.json_answers import STRING, array_schema, object_schema

KIND = "instruction"


@dataclass(frozen=True, kw_only=True)
class KnowledgeInstruct(EntityAugmenter):
    """Writes each fact about each entity of a document as `paraphrases` instructions with answers, then new facts.

    From the paper (its abstract and secondary descriptions; its repository has the data, not the pipeline): entities,
    facts about each entity, stated with the context to stand alone, without duplicates, paraphrased several times and
    turned into instructions; training as instruction tuning, with the loss on the answers. Ours: the prompts; one
    request lists an entity's facts with their context, and one rewords a fact as an instruction with its answer;
    duplicates are removed within a list, where they have the same words.

    `conversations`: a text is the JSON of a chat, for tokenizer=chat; otherwise two paragraphs. The entity lists are
    those of EntiGraph, so known ones cost nothing.
    """

    name: str = "knowledge_instruct"
    facts: int = 10
    paraphrases: int = 3
    conversations: bool = False

    def __post_init__(self) -> None:
        check_minimums(self, "augmenter.", facts=1, paraphrases=1)
        super().__post_init__()

    @property
    def prompt_names(self) -> Sequence[str]:
        return ["entities", "entity_facts", KIND]

    @property
    def endless(self) -> bool:
        return True

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        known = [(document, graphs[document.id].entities) for document in documents if document.id in graphs]
        return round_robin([self.instructions(document, entities) for document, entities in known], 1)

    def instructions(self, document: Document, entities: Sequence[str]) -> Iterator[WritingTask]:
        """Yields one task for each entity in every round; the list of facts about an entity lasts several rounds."""
        for sample in count():
            first_list = len(entities) * (sample // (self.facts * self.paraphrases))
            for number, entity in enumerate(entities):
                yield WritingTask(
                    document=document, kind=KIND, about=[[entity]], sample=sample, list_number=first_list + number
                )

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        facts = yield self.build_request(
            task.document,
            "entity_facts",
            f"### Entity to describe\n{task.about[0][0]}\n\n### Number of facts\n{self.facts}",
            sample=task.sample // (self.facts * self.paraphrases),
            json_schema=object_schema(facts=array_schema()),
        )
        answer = yield self.build_request(
            task.document,
            KIND,
            f"### Fact\n{pick_item(facts, 'facts', task.sample)}",
            show_text=False,
            sample=task.sample,
            json_schema=object_schema(instruction=STRING, answer=STRING),
        )
        return [self.render(read_object(answer, "instruction", "answer"))]

    def render(self, fields: Mapping[str, str]) -> str:
        instruction, answer = (str(fields[name] or "").strip() for name in ("instruction", "answer"))
        if not instruction or not answer:
            raise BadAnswer("an empty instruction or answer")
        if not self.conversations:
            return f"{instruction}\n\n{answer}"
        messages = [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}]
        return json.dumps(messages, ensure_ascii=False)


@offline_task("list facts about one entity of the document", states_facts=True)
def list_entity_facts(prompt: OfflinePrompt) -> str:
    entity, count_asked = prompt.details["entity to describe"], int(prompt.details["number of facts"])
    facts = [fact for topic, stated in topics(prompt) if topic.endswith(entity) for fact in stated]
    return json.dumps({"facts": facts[:count_asked]}, ensure_ascii=False)


@offline_task("turn a fact into an instruction", states_facts=True)
def instruct(prompt: OfflinePrompt) -> str:
    fact = prompt.details["fact"]
    question, answer = prompt.rng.choice(ask_about_statement(fact))
    wording = prompt.rng.choice([fact, answer])
    return json.dumps({"instruction": question, "answer": wording}, ensure_ascii=False)
