package EdgespanTest::InteropZipkin;

# Zipkin's server with its storage in memory, and its query API.

use strict;
use warnings;

use parent 'EdgespanTest::InteropBackend';

my %PORT = (http => 1);

sub kind        { return 'Zipkin' }
sub program     { return 'zipkin.jar' }
sub ports_named { return \%PORT }
sub config      { return undef }

sub command {
    my ($self) = @_;
    return ('java', '-Xmx256m', '-jar', $self->{program},
        '--armeria.ports[0].ip=127.0.0.1', '--armeria.ports[0].port=' . $self->port_of('http'),
        '--armeria.ports[0].protocols[0]=http');
}

# It listens before it answers.
sub ready {
    my ($self) = @_;
    return 0 unless $self->SUPER::ready;
    return defined $self->get($self->port_of('http'), '/health');
}

sub spans {
    my ($self, $trace_id) = @_;
    my $found = $self->get_json($self->port_of('http'), "/api/v2/trace/$trace_id") or return;
    return map { {
        trace_id => $_->{traceId}, span_id => $_->{id}, parent => $_->{parentId} // '',
        name => $_->{name}, kind => $_->{kind}, attrs => $_->{tags},
        error => exists $_->{tags}{error} ? 1 : 0,
        service => $_->{localEndpoint}{serviceName},
        from => $_->{timestamp} / 1e6, to => ($_->{timestamp} + $_->{duration}) / 1e6,
    } } @$found;
}

1;
