import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** A large upload by a JDK's clients, kept open and closed: `java Refused.java URL` prints each one's status and answer on a line. */
class Refused {
  public static void main(String[] arguments) throws Exception {
    URI url = URI.create(arguments[0]);
    byte[] recording = new byte[30 << 20];
    for (boolean kept : new boolean[] {true, false}) {
      var connection = (HttpURLConnection) url.toURL().openConnection();
      connection.setDoOutput(true);
      connection.setFixedLengthStreamingMode(recording.length);
      connection.setRequestProperty("Content-Type", "audio/wav");
      if (!kept) connection.setRequestProperty("Connection", "close");
      connection.getOutputStream().write(recording);
      int status = connection.getResponseCode();
      try (InputStream answer = connection.getErrorStream()) {
        System.out.println(status + " " + new String(answer.readAllBytes()));
      }
    }
    var request = HttpRequest.newBuilder(url).header("Content-Type", "audio/wav").POST(BodyPublishers.ofByteArray(recording));
    var answer = HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofString());
    System.out.println(answer.statusCode() + " " + answer.body());
  }
}
