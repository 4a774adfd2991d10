package EdgespanTest::InteropService;

# A service with another SDK of OpenTelemetry, Go's or Python's
# (t/interop/services), which OTEL_* variables configure. Per request it makes a
# SERVER span and answers with a JSON list: what it knows of its trace (service,
# trace_id, sampled, tracestate, baggage), and what those behind it answered.
# Parameters of a request: next (the URL of the service behind it, called under a
# CLIENT span), baggage (to be set, as in the header), status (to answer with).

use strict;
use warnings;

use parent 'EdgespanTest::InteropBackend';

use EdgespanTest;

my %PORT = (http => 1);

sub kind        { return "the $_[0]{language} service" }
sub program     { return "service-$_[0]{language}" }
sub ports_named { return \%PORT }
sub config      { return undef }

sub bad_log {
    my ($self) = @_;
    my $bad = $self->SUPER::bad_log;
    return qr/$bad|^Traceback |Failed to export|failed to upload/;
}

# $collector gets its spans; %env is the rest of its configuration.
sub new {
    my ($class, $language, $collector, %env) = @_;
    return $class->SUPER::new(language => $language, env => {
        OTEL_SERVICE_NAME => $language,
        OTEL_EXPORTER_OTLP_ENDPOINT => 'http://127.0.0.1:' . $collector->port_of('http'),
        OTEL_BSP_SCHEDULE_DELAY => 50,
        NO_PROXY => '127.0.0.1',
        %env,
    });
}

sub command {
    my ($self) = @_;
    my @program = $self->{language} eq 'go' ? $self->{program}
        : ("$self->{program}/bin/python", repo_root() . '/t/interop/services/service.py');
    return (@program, '127.0.0.1:' . $self->port_of('http'));
}

sub url { return 'http://127.0.0.1:' . $_[0]->port_of('http') . '/' }

1;
