# A certificate authority and what it has signed, for localhost and 127.0.0.1, in a
# directory that servers may read.
package EdgespanTest::Certificates;

use strict;
use warnings;

use EdgespanTest;

sub new {
    my ($class) = @_;
    my $self = bless { dir => tmpdir() }, $class;
    open my $san, '>', "$self->{dir}/san" or die "$self->{dir}: $!\n";
    print {$san} "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
    close $san;
    return $self;
}

sub _openssl {
    my ($self, $command) = @_;
    system("cd $self->{dir} && openssl $command >openssl.log 2>&1") == 0
        or die "openssl $command: ", slurp("$self->{dir}/openssl.log");
    chmod 0644, glob "$self->{dir}/*";
    return;
}

sub file { return "$_[0]{dir}/$_[1]" }

# NAME.pem and NAME.key.
sub authority {
    my ($self, $name) = @_;
    $self->_openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name"
        . " -keyout $name.key -out $name.pem");
    return;
}

# Likewise, signed by an authority. Negative days: expired.
sub certificate {
    my ($self, $name, $authority, $days) = @_;
    $self->_openssl("req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key"
        . " -out $name.csr");
    $self->_openssl("x509 -req -in $name.csr -CA $authority.pem -CAkey $authority.key"
        . " -CAcreateserial -days $days -extfile san -out $name.pem");
    return;
}

1;
