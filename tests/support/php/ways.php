<?php
// How PHP clients in the field send a form: each takes the URL and the array, and returns the body of the reply.

// An array as CURLOPT_POSTFIELDS makes curl send multipart/form-data. The commonest real client.
function curl_multipart(string $url, array $data): string
{
    return curl($url, [CURLOPT_POST => true, CURLOPT_POSTFIELDS => $data]);
}

function curl_urlencoded(string $url, array $data): string
{
    return curl($url, [CURLOPT_POST => true, CURLOPT_POSTFIELDS => http_build_query($data)]);
}

// The data as a file part of a multipart form.
function curl_file(string $url, array $data): string
{
    $data['Profiles_Data'] = new CURLStringFile($data['Profiles_Data'], 'customers.txt', 'text/plain');
    return curl_multipart($url, $data);
}

function stream(string $url, array $data): string
{
    $http = ['method' => 'POST', 'header' => 'Content-Type: application/x-www-form-urlencoded', 'content' => http_build_query($data)];
    return file_get_contents($url, false, stream_context_create(['http' => $http]));
}

// As many write it: without the header, which PHP then puts there itself, with a notice.
function stream_without_content_type(string $url, array $data): string
{
    $http = ['method' => 'POST', 'content' => http_build_query($data)];
    return @file_get_contents($url, false, stream_context_create(['http' => $http]));
}

function get(string $url, array $data): string
{
    return file_get_contents($url . '?' . http_build_query($data));
}

function curl(string $url, array $options): string
{
    $handle = curl_init($url);
    curl_setopt_array($handle, $options + [CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 60]);
    $body = curl_exec($handle);
    if ($body === false) {
        fwrite(STDERR, curl_error($handle));
        exit(1);
    }
    return $body;
}
