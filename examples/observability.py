"""A session told to OpenTelemetry: requests to the agent, turns, tools and HTTP requests as spans, and the metrics.

Needs the extras "otel" and "tools", and opentelemetry-sdk. With ANTHROPIC_API_KEY set: `python observability.py`;
without a key: `python observability.py --simulate`, where the stream is lost while the tools run.
"""

import sys

import trio

import managed_agents_actors as maa
from managed_agents_actors import telemetry
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import DropStream, Fault, FaultPlan, call_tools, open_claude_simulator, say, wait

try:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
except ImportError:
    sys.exit('this example needs OpenTelemetry: pip install "managed-agents-actors[otel,tools]" opentelemetry-sdk')


@maa.tool
async def get_forecast(city: str, day: str) -> str:
    """Get the weather forecast.

    Args:
        city: The city's name.
        day: The day of the week.
    """
    await trio.sleep(0.2)  # a service would take about as long
    return f"24 degrees and sunny in {city} on {day}"


@maa.tool
async def get_flight(number: str) -> str:
    """Find out whether a flight is on time.

    Args:
        number: The flight's number.
    """
    with telemetry.span("timetable.query", {"flight": number}) as told:  # a span of our own, within the tool's
        await trio.sleep(0.5)
        told["rows"] = 1
    return f"{number} leaves on time, at 09:40 from gate B12"


toolbox = maa.Toolbox([get_forecast, get_flight])


def set_up() -> trace.Tracer:
    """Set OpenTelemetry up as an application does, once; here all spans and metrics are printed, as JSON."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))  # a service: BatchSpanProcessor
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))
    telemetry.attach_opentelemetry()
    return trace.get_tracer("trips")


async def plan_trip(client: maa.ClaudeClient, tracer: trace.Tracer) -> None:
    """Provision an agent that knows the tools, ask it, and clean up."""
    spec = maa.AgentSpec(name="trips", system_prompt="You plan trips.", model="claude-opus-5-5", tools=toolbox)
    environment = maa.EnvironmentSpec(name="observability", config={"type": "cloud"})
    handle = await maa.provision(claude_managed_agents, spec, environment=environment, client=client)
    with tracer.start_as_current_span("plan trip"):  # the application's own span: what the session does is in it
        result = await maa.run_session(
            claude_managed_agents,
            client=client,
            **handle.options,
            handler=toolbox,
            prompt="I fly to Lisbon on Friday with MA 204. What should I pack, and is the flight on time?",
            reconnect=maa.ReconnectPolicy(initial=0.1, jitter=0.0),
            telemetry_metadata={"customer": "acme"},
        )
    print(result.text)
    await maa.teardown(claude_managed_agents, handle, client=client)


async def main() -> None:
    """Run against the API, or against a simulator in this process."""
    tracer = set_up()
    if "--simulate" in sys.argv:
        calls = call_tools(("get_forecast", {"city": "Lisbon", "day": "Friday"}), ("get_flight", {"number": "MA 204"}))
        script = [wait(0.1), calls, wait(0.1), say("Pack light: it is sunny. MA 204 leaves on time, from gate B12.")]
        lost = Fault(on="stream", action=DropStream(after_type="agent.custom_tool_use", after_events=2))
        async with open_claude_simulator(script, faults=FaultPlan([lost])) as simulator, simulator.client() as client:
            await plan_trip(client, tracer)
    else:
        async with maa.ClaudeClient() as client:
            await plan_trip(client, tracer)


trio.run(main)
