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
