"""Chat templates: what transformers' language has, and nothing of Python's."""

import datetime
import json

import pytest

from cooper_jax.errors import UserError
from cooper_jax.tokenizers.chat_template import ChatTemplate
from tests.tokenizers import folders

HELLO = [
  {"role": "system", "content": "You look."},
  {"role": "user", "content": "How far is <it> ? é中"},
]
WRITTEN = """\
<|im_start|>system
You look.<|im_end|>
<|im_start|>user
How far is <it> ? é中<|im_end|>
"""


def render(source, messages=HELLO, names=None, **more):
  return ChatTemplate(source, names or {}, "there").chat(messages, **more)


def test_a_folders_template_writes_the_messages(tmp_path):
  template = ChatTemplate.load(folders.write(tmp_path / "f"))
  answer = "<|im_start|>assistant\n"
  assert template.chat(HELLO) == WRITTEN + answer
  assert template.chat(HELLO, answer=False) == WRITTEN
  assert template.chat([], answer=False) == ""
  with pytest.raises(UserError, match=r"refuses these .*: system comes first"):
    template.chat(HELLO[::-1])


@pytest.mark.parametrize(
  ("source", "text"),
  [
    # A block's line leaves no trace: trim_blocks and lstrip_blocks.
    ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
    ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}"
     "{{ m.role }},{% endfor %}", "system,"),
    ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
     "{{ m.role }},{% endfor %}", "user,"),
    ("{{ messages[1].content | tojson }}", '"How far is <it> ? é中"'),
    ("{{ {'b': 1, 'a': [2]} | tojson(indent=1) }}",
     json.dumps({"b": 1, "a": [2]}, indent=1)),
    ("{% set n = namespace(x=0) %}{% for m in messages %}"
     "{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}", "2"),
    ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) }}", "[1]"),
    ("{% generation %}\nit is{% endgeneration %}.", "it is."),
    ("{{ strftime_now('%Y') }}", str(datetime.datetime.now().year)),
    ("{{ tools is none }}{{ missing is defined }}{{ missing }}", "TrueFalse"),
    ("{{ bos_token }}{{ messages[0].content.split()[-1] }}", "<s>look."),
    ("end\n", "end"),
  ],
)  # fmt: skip
def test_the_language_is_that_of_transformers(source, text):
  assert render(source, names={"bos_token": "<s>"}) == text


@pytest.mark.parametrize(
  "source",
  [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages | attr('__class__') }}",
    "{{ messages['__class__'] }}" + "{{ messages.__class__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ self.__init__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='x') }}",
  ],
)
def test_a_template_that_reaches_out_of_its_sandbox_is_refused(source):
  messages = [dict(message) for message in HELLO]
  with pytest.raises(UserError, match="tries to leave its sandbox") as error:
    render(source, messages)
  assert "\n" not in str(error.value)
  assert messages == HELLO


@pytest.mark.parametrize(
  ("source", "said"),
  [
    ("{% for m in %}", "is not one"),
    ("{% include '/etc/hostname' %}", "refuses these messages"),
    ("{% import 'os' as os %}", "refuses these messages"),
    ("{{ range(1000000000) | list }}", "Range too big"),
    ("{{ messages[0].content + 1 }}", "refuses these messages"),
    ("{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "more than"),
    ("{{ raise_exception('one\ntwo') }}", "one two"),
    ("{{ raise_exception('a\x1b[2J\u202eb') }}", "TemplateError: a [2J b)"),
    ("{{ 'a' * 10**11 }}", "100,000,000,000 times a text"),
    ("{{ (10**11 * [1]) | length }}", "100,000,000,000 times a text"),
  ],
)
def test_a_template_that_fails_is_one_line(source, said):
  with pytest.raises(UserError) as error:
    render(source)
  message = str(error.value)
  assert said in message and message.startswith("there: ")
  assert "\n" not in message


def test_a_template_without_memory_is_one_line():
  def none_left():
    raise MemoryError

  with pytest.raises(UserError, match=r"there: .* more memory than there is"):
    render("{{ f() }}", f=none_left)
  assert render("{{ 'ab' * 3 }}{{ 2 * 3 }}") == "ababab6"


def test_where_a_template_is_looked_for(tmp_path):
  folder = folders.write(tmp_path / "f", template=None)
  with pytest.raises(UserError, match="has no chat template"):
    ChatTemplate.load(folder)
  chat = lambda: ChatTemplate.load(folder).chat([])  # noqa: E731
  (folder / "chat_template.json").write_text('{"chat_template": "processor"}')
  assert chat() == "processor"
  several = [{"name": "tool_use", "template": "tools"}]
  several.append({"name": "default", "template": "settings {{ eos_token }}"})
  folders.change(folder, "tokenizer_config.json", chat_template=several)
  assert chat() == "settings <|im_end|>"
  (folder / "chat_template.jinja").write_text("alone {{ image_token }}")
  extra = {"image_token": {"content": "<img>"}}
  folders.change(folder, "tokenizer_config.json", extra_special_tokens=extra)
  assert chat() == "alone <img>"
