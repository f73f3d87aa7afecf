//! The canonical request: what a client asks of a model, in no wire's words.
//!
//! Decoders fill it, a translation reshapes it to what the target's wire can say, encoders write it. What a wire says
//! and this form has no word for stays in the `extra` of the object it stood in; `extra` belongs to the wire the call
//! was decoded from, so encoding to the same wire gives the same document, and a translation has to account for each
//! member of it.

use serde_json::{Number, Value};

use crate::Dialect;
pub use crate::fields::Extra;

/// One request to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The wire whose words `extra` and `Other` hold.
    pub dialect: Dialect,
    /// The model's name.
    pub model: String,
    /// Instructions that stand apart from the messages.
    pub system: Option<Content>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether and what it must call.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one turn.
    pub parallel_tools: Option<bool>,
    /// Tools are spelled `functions` and `function_call`, as OpenAI did until 2023.
    pub legacy_functions: bool,
    /// The most tokens of output.
    pub max_tokens: Option<TokenLimit>,
    /// Sampling temperature.
    pub temperature: Option<Number>,
    /// Nucleus sampling.
    pub top_p: Option<Number>,
    /// Sampling from the k likeliest tokens.
    pub top_k: Option<u64>,
    /// Texts that end the output.
    pub stop: Option<Stop>,
    /// Whether the reply is streamed.
    pub stream: Option<bool>,
    /// Whether a streamed reply ends with token counts.
    pub include_usage: Option<bool>,
    /// Whether and how the model thinks before it answers.
    pub thinking: Option<ThinkingMode>,
    /// How much trouble the model takes: `low`, `medium`, `high` and their neighbours.
    pub effort: Option<String>,
    /// The shape the answer must have.
    pub format: Option<Format>,
    /// Who the client's end user is.
    pub user: Option<String>,
    /// The rest.
    pub extra: Extra,
}

/// The most tokens of output, and which of OpenAI's two names it came under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimit {
    /// The limit.
    pub tokens: u64,
    /// Its name on OpenAI's wire.
    pub name: TokenLimitName,
}

/// OpenAI's two names for the same limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLimitName {
    /// `max_completion_tokens`, the name OpenAI's own models need.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, the name older compatible servers need.
    MaxTokens,
}

/// Texts that end the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The texts.
    pub texts: Vec<String>,
    /// It was one bare string, not a list.
    pub bare: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator.
    System,
    /// The operator, in OpenAI's newer word.
    Developer,
    /// The end user.
    User,
    /// The model.
    Assistant,
    /// A tool the model called; its message holds exactly one [`Part::ToolResult`].
    Tool,
}

/// One turn, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// The rest.
    pub extra: Extra,
}

/// How content was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// There was none (an assistant's turn may hold only tool calls).
    Absent,
    /// A bare string.
    Text,
    /// A list of parts.
    Parts,
}

/// What is said, as parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// How it was written down. With [`Shape::Text`], the one [`Part::Text`] is the string.
    pub shape: Shape,
    /// The parts in order; tool calls and thinking among them.
    pub parts: Vec<Part>,
}

impl Content {
    /// Content that is one bare string.
    pub fn text(text: impl Into<String>) -> Self {
        Self { shape: Shape::Text, parts: vec![Part::text(text)] }
    }

    /// Content that is a list.
    pub const fn parts(parts: Vec<Part>) -> Self {
        Self { shape: Shape::Parts, parts }
    }
}

/// One piece of content.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(Text),
    /// The model's words for why it will not answer.
    Refusal(Text),
    /// A picture.
    Image(Image),
    /// A document.
    File(File),
    /// Sound, as OpenAI's `input_audio` object.
    Audio(Audio),
    /// What the model thought.
    Thinking(Thinking),
    /// What the model thought, readable by its provider only.
    RedactedThinking(RedactedThinking),
    /// A call of a tool by the model.
    ToolCall(ToolCall),
    /// What a tool gave back.
    ToolResult(ToolResult),
    /// A kind this form has no word for: the object, its `type` included.
    Other(Value),
}

impl Part {
    /// A text part without extras.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text { text: text.into(), extra: Extra::new() })
    }
}

/// Text and what the wire hangs on it (citations, cache marks).
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// The rest.
    pub extra: Extra,
}

/// Where the bytes of a picture or a document are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Here, in base64.
    Base64 {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// At an address; on OpenAI's wire also a `data:` URL.
    Url(String),
    /// At the provider, under this id.
    FileId(String),
    /// Here, as plain text.
    PlainText {
        /// The media type, such as `text/plain`.
        media_type: String,
        /// The text.
        data: String,
    },
    /// Here, as parts.
    Parts(Content),
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Where it is.
    pub source: Source,
    /// How closely it is to be looked at.
    pub detail: Option<String>,
    /// The rest.
    pub extra: Extra,
}

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Where it is.
    pub source: Source,
    /// Its name or title.
    pub title: Option<String>,
    /// The rest.
    pub extra: Extra,
}

/// Sound in base64.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// The bytes in base64.
    pub data: String,
    /// `wav`, `mp3` and so on.
    pub format: String,
    /// The rest.
    pub extra: Extra,
}

/// What the model thought.
#[derive(Clone, Debug, PartialEq)]
pub struct Thinking {
    /// The thought.
    pub text: String,
    /// The provider's proof that the thought is its own; `None` on wires without one.
    pub signature: Option<String>,
    /// The rest.
    pub extra: Extra,
}

/// What the model thought, sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct RedactedThinking {
    /// The sealed bytes.
    pub data: String,
    /// The rest.
    pub extra: Extra,
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Ties the result to the call; `None` for OpenAI's old `function_call`.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// What it is called with.
    pub arguments: Arguments,
    /// The rest.
    pub extra: Extra,
}

/// Arguments of a tool call as the wire wrote them.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments {
    /// JSON in a string, which a model wrote: it may be empty or broken.
    Text(String),
    /// An object (or what a client put in its place).
    Json(Value),
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call it answers; `None` for OpenAI's old role `function`.
    pub id: Option<String>,
    /// The tool, where the wire says it.
    pub name: Option<String>,
    /// What it gave back.
    pub content: Content,
    /// Whether the tool failed.
    pub is_error: Option<bool>,
    /// The rest.
    pub extra: Extra,
}

/// What the model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// A function that the client runs.
    Function(Function),
    /// A kind this form has no word for (a provider's own tool, a grammar): the object as it came.
    Other(Value),
}

/// A function that the client runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub schema: Option<Value>,
    /// Whether arguments are held to the schema while they are generated.
    pub strict: Option<bool>,
    /// The rest.
    pub extra: Extra,
}

/// Whether and what the model must call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolChoice {
    /// The rule.
    pub rule: ToolRule,
    /// The rest.
    pub extra: Extra,
}

/// The rule of a [`ToolChoice`].
#[derive(Clone, Debug, PartialEq)]
pub enum ToolRule {
    /// The model decides.
    Auto,
    /// It calls nothing.
    None,
    /// It calls something.
    Required,
    /// It calls this function.
    Tool(String),
    /// A rule this form has no word for.
    Other(Value),
}

/// Whether and how the model thinks before it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ThinkingMode {
    /// The rule.
    pub rule: ThinkingRule,
    /// The rest.
    pub extra: Extra,
}

/// The rule of a [`ThinkingMode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThinkingRule {
    /// It thinks, with at most so many tokens.
    Enabled {
        /// The most tokens of thought.
        budget: u64,
    },
    /// It decides by itself.
    Adaptive,
    /// It thinks between tool calls only.
    BetweenTools,
    /// It does not think.
    Disabled,
    /// A mode this form has no word for.
    Other(String),
}

/// The shape the answer must have.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Any text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON after a schema.
    JsonSchema(JsonSchema),
}

/// JSON after a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonSchema {
    /// A label for it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether output is held to it while it is generated.
    pub strict: Option<bool>,
    /// The schema.
    pub schema: Option<Value>,
    /// The rest.
    pub extra: Extra,
}
