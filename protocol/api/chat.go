package api

import "encoding/json"

// ChatRequest is the body of the proxy's chat/completions: OpenAI's, as far as
// 0.22.5 knows it. What is only passed on is not looked into.
type ChatRequest struct {
	Messages         []ChatMessage   `json:"messages"`
	Model            string          `json:"model"`
	FrequencyPenalty json.RawMessage `json:"frequency_penalty,omitempty"`
	LogitBias        json.RawMessage `json:"logit_bias,omitempty"`
	MaxTokens        json.RawMessage `json:"max_tokens,omitempty"`
	N                json.RawMessage `json:"n,omitempty"`
	PresencePenalty  json.RawMessage `json:"presence_penalty,omitempty"`
	ResponseFormat   json.RawMessage `json:"response_format,omitempty"`
	Seed             json.RawMessage `json:"seed,omitempty"`
	Stop             json.RawMessage `json:"stop,omitempty"`
	Stream           bool            `json:"stream,omitempty"`
	Temperature      json.RawMessage `json:"temperature,omitempty"`
	TopP             json.RawMessage `json:"top_p,omitempty"`
	Tools            json.RawMessage `json:"tools,omitempty"`
	ToolChoice       json.RawMessage `json:"tool_choice,omitempty"`
	User             json.RawMessage `json:"user,omitempty"`
}

// ChatMessage is one message of a chat.
type ChatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// ChatResponse is the answer of the proxy's chat/completions. A stream has
// chunks of it instead.
type ChatResponse struct {
	ID                string       `json:"id"`
	Choices           []ChatChoice `json:"choices"`
	Created           int64        `json:"created"`
	Model             string       `json:"model"`
	SystemFingerprint string       `json:"system_fingerprint"`
	Object            string       `json:"object"`
	Usage             ChatUsage    `json:"usage"`
}

// ChatChoice is one of the answers.
type ChatChoice struct {
	FinishReason string      `json:"finish_reason"`
	Index        int         `json:"index"`
	Message      ChatMessage `json:"message"`
}

// ChatUsage counts the tokens of a chat.
type ChatUsage struct {
	CompletionTokens int `json:"completion_tokens"`
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// Models is the answer of the proxy's models: OpenAI's.
type Models struct {
	Object string  `json:"object"`
	Data   []Model `json:"data"`
}

// Model is a model that some service of the project serves; Created is a Unix
// time.
type Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}
