"""Sentences of the stub that Annex says in other words, each with the reason."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wording:
    """`recorded`: the stub's sentence. `annex`: what it is here, once names, ids, dates and prices
    are taken out."""

    recorded: str
    annex: str
    reason: str


WORDINGS = (
    Wording(
        recorded="This add-on is attached to other apps. Detach it or use --force",
        annex="NAME is also attached to: otherapp. Detach it there first, or use --force to "
        "destroy it all the same",
        reason="names the apps that are in the way",
    ),
    Wording(
        recorded="Name must start with a letter and can only contain uppercase letters, numbers, "
        "and underscores",
        annex="Name must start with a letter and can only contain uppercase letters, numbers, "
        "and underscores; '1bad' does not",
        reason="names the name that was given",
    ),
    Wording(
        recorded="Attaching inference-acute-10001 as SHARED would overwrite the existing "
        "attachment SHARED on otherapp.",
        annex="Attaching NAME to app otherapp would overwrite existing attachment SHARED from "
        "NAME.",
        reason="names the add-on that would lose its name, in the words of addons:create",
    ),
    Wording(
        recorded="You do not have access to the app myapp.",
        annex="You do not have the permission operate on the app myapp; ask other@example.com "
        "for it",
        reason="names the permission, and who can give it",
    ),
    Wording(
        recorded="Heroku API is in maintenance mode.",
        annex="The service is not available at the moment. Please try again.",
        reason="there is no maintenance mode: this is what a database that is away looks like",
    ),
    Wording(
        recorded="Your key is ready. See https://docs.example.com",
        annex="Ready: POST https://127.0.0.1/v1/embeddings for the model "
        "cohere-embed-multilingual, other models by the parameter model",
        reason="the message of Annex's own provider",
    ),
    Wording(
        recorded="? (inference-flat-10002) ? (billed to otherapp app) (billed to otherapp app)",
        annex="heroku-inference (inference-flat-10002) standard (billed to otherapp app) (billed "
        "to otherapp app) created",
        reason="names service and plan of another app's add-on that is attached to this one",
    ),
    Wording(
        recorded="inference-acute-10001 embed_tokens 123456 inference-acute-10001 requests 42",
        annex="inference-acute-10001 requests 42 inference-acute-10001 inputs 42 "
        "inference-acute-10001 input tokens 123456",
        reason="the meters are those of Annex's plans: requests, inputs, tokens",
    ),
    Wording(
        recorded="Invalid inference key.",
        annex="Incorrect API key: it is mistyped, or its attachment was detached or destroyed. "
        "The current one is in your app's config vars (heroku config -a APP).",
        reason="says where the right key is",
    ),
    Wording(
        recorded="Rate limit reached: 500 requests per minute. Error ID: rate_limit",
        annex="Rate limit reached: 1 requests per minute, 1 used, 1 asked. Please try again in "
        "1s. Error ID: rate_limit_exceeded",
        reason="says what was used and how long to wait; the id is OpenAI's code",
    ),
    Wording(
        recorded="Description: lab Scope: global",
        annex="Description: ci key Scope: read,write",
        reason="the stub answered with the same authorization whatever was asked for",
    ),
    Wording(
        recorded="The requested API endpoint was not found. Are you using the right HTTP verb "
        "(i.e. `GET` vs. `POST`), and did you specify your intended version with the `Accept` "
        "header?",
        annex="Couldn't find that team.",
        reason="the stub had no teams",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What Annex prints besides: a regular expression over the words."""

    annex: str
    reason: str


ADDED = (
    Addition(
        annex=r"Ready: POST URL for the model MODEL(, other models by the parameter model)?",
        reason="Annex's own provider sends a message with each add-on; the stub's sent none",
    ),
    Addition(
        annex=r"See URL for more information\.",
        reason="Annex's errors name the page of its docs that is about them",
    ),
    Addition(
        annex=r"Please note that it may take a few minutes for Heroku to provision a SSL "
        r"certificate for your application\.",
        reason="the CLI says so of an address without TLS, which an Annex on localhost has",
    ),
    Addition(
        annex=r"VECTOR",
        reason="Annex sends the AI plugin the field that it prints; the documented answer has none "
        "and leaves an empty line",
    ),
)
