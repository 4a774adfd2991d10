# Reads files of OTLP-JSON lines while they grow, and draws traces as trees.
package Tree;

use strict;
use warnings;
use JSON::PP;
use Time::HiRes 'time';

sub new {
    my ($class, @files) = @_;
    return bless {files => {map { $_ => 0 } @files}, traces => {}, seen => {}}, $class;
}

# Reads what is new in the files; a line is taken once it is whole.
sub read {
    my ($self) = @_;
    for my $file (keys %{$self->{files}}) {
        open my $fh, '<', $file or next;
        seek $fh, $self->{files}{$file}, 0;
        while (my $line = <$fh>) {
            last unless $line =~ /\n\z/;
            $self->{files}{$file} = tell $fh;
            $self->add(decode_json($line));
        }
    }
}

sub add {
    my ($self, $data) = @_;
    for my $resource (@{$data->{resourceSpans}}) {
        my ($service) = map { $_->{value}{stringValue} }
            grep { $_->{key} eq 'service.name' } @{$resource->{resource}{attributes}};
        for my $span (map { @{$_->{spans}} } @{$resource->{scopeSpans}}) {
            $span->{service} = $service;
            $span->{attr} = {map { $_->{key} => (values %{$_->{value}})[0] } @{$span->{attributes}}};
            push @{$self->{traces}{$span->{traceId}}}, $span;
            $self->{seen}{$span->{traceId}} = time;
        }
    }
}

sub traces { my ($self) = @_; return sort keys %{$self->{traces}} }
sub count  { my ($self, $id) = @_; return scalar @{$self->{traces}{$id}} }

# Seconds since its last span came.
sub age { my ($self, $id) = @_; return time - $self->{seen}{$id} }

# Spans whose parent is not among them, oldest first.
sub roots {
    my ($self, $id) = @_;
    my @spans = @{$self->{traces}{$id}};
    my %known = map { $_->{spanId} => 1 } @spans;
    return sort { $a->{startTimeUnixNano} <=> $b->{startTimeUnixNano} }
        grep { !$known{$_->{parentSpanId} // ''} } @spans;
}

sub route {
    my ($self, $id) = @_;
    my ($root) = $self->roots($id);
    return $root->{attr}{'http.route'} // '';
}

sub draw {
    my ($self, $id) = @_;
    my %children;
    push @{$children{$_->{parentSpanId} // ''}}, $_ for @{$self->{traces}{$id}};
    my @roots = $self->roots($id);
    my $start = $roots[0]{startTimeUnixNano};
    my $text  = "trace $id\n";

    my $line;
    $line = sub {
        my ($span, $first, $rest) = @_;
        my $ms     = ($span->{endTimeUnixNano} - $span->{startTimeUnixNano}) / 1e6;
        my $at     = ($span->{startTimeUnixNano} - $start) / 1e6;
        my $kind   = (qw(- INTERNAL SERVER CLIENT))[$span->{kind}];
        my $status = $span->{attr}{'http.response.status_code'} // '';
        my $error  = ($span->{status}{code} // 0) == 2 ? "  $span->{attr}{'error.type'}" : '';
        my $again  = $span->{attr}{'http.request.resend_count'};
        my $label  = "$first$span->{name}" . ($again ? ", try " . ($again + 1) : '');
        # The drawing's characters count as one each, not as their bytes.
        utf8::decode(my $width = $label);
        $text .= sprintf "%s%s %-8s  %-9s  %3s %9.3f ms  at %8.3f%s\n",
            $label, ' ' x (44 - length $width > 0 ? 44 - length $width : 0),
            $kind, $span->{service}, $status, $ms, $at, $error;
        my @below = sort { $a->{startTimeUnixNano} <=> $b->{startTimeUnixNano} }
            @{$children{$span->{spanId}} // []};
        while (my $child = shift @below) {
            $line->($child, $rest . (@below ? '├─ ' : '└─ '), $rest . (@below ? '│  ' : '   '));
        }
    };
    $line->($_, '', '') for @roots;
    return $text;
}

# What the first span waited for; the parts add up to its duration.
sub waits {
    my ($self, $id) = @_;
    my ($root) = $self->roots($id);
    my %ms = map { /^edgespan\.time\.(.*)/ ? ($1 => 1000 * $root->{attr}{$_}) : () } keys %{$root->{attr}};
    return 'who was slow? '
        . join(', ', map { sprintf '%s %.3f ms', $_, $ms{$_} } sort { $ms{$b} <=> $ms{$a} } keys %ms) . "\n";
}

1;
