"""`flask explain`: runs the real stages of the gateway on a simulated request, up to the point of forwarding it.

In the order of use: `simulated_request` writes the request and has the server's parser read it; `dry_run` builds the
gateway with the components of `dry_run_parts` and runs its stages; `findings` and `token_findings` describe the result
of each stage; `header_diff` compares headers and hides credentials; `explanation` puts everything together.

- *simulated request*: the request on the command line, as bytes.
- *dry run*: the stages run, but nothing is counted, stored or sent to a service.
- *dry-run result*: the response, and the stages that began, ended or refused the request.
- *finding*: one stage, its verdict and the reason.
- *explanation*: all findings, and the headers that a service or the client would receive.
"""
